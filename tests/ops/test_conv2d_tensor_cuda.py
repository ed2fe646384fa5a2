"""Products on tensor cores (R9): CUDA has the bits of the CPU's slow reproduction, in either class.

Emulated everywhere, on a GPU with `-m cuda`, where the class is the GPU's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.emulated import forced_plan, operators, run
from tests.support.on_cuda import drawn_convolution
from tests.support.properties import (
    INF,
    any_bits,
    assert_bits,
    beside_nan,
    conv2d_arguments,
    layouts,
    nan_filled,
    normal,
    positive,
    with_specials,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
TILES = range(3)
# input, out_channels, kernel, stride, padding, dilation, groups
PROBLEMS = {
    "points": ((3, 40, 5, 5), 72, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "points, several segments": ((2, 200, 3, 3), 40, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "points, strided": ((2, 24, 7, 6), 72, (1, 1), (2, 3), (0, 0), (1, 1), 1),
    "points, padded": ((2, 8, 4, 4), 8, (1, 1), (1, 1), (2, 1), (1, 1), 1),
    "windows": ((2, 24, 9, 7), 72, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "windows, strided": ((1, 136, 6, 5), 40, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "windows, dilated": ((2, 8, 9, 8), 16, (2, 3), (1, 2), (3, 1), (2, 3), 1),
    "32 taps": ((2, 8, 9, 6), 8, (8, 4), (1, 1), (3, 2), (1, 1), 1),
    "more taps than bits": ((2, 8, 7, 8), 24, (7, 5), (1, 1), (3, 2), (1, 1), 1),
    "stem": ((2, 3, 17, 13), 24, (7, 7), (2, 2), (3, 3), (1, 1), 1),
    "odd channels": ((2, 5, 6, 7), 7, (2, 3), (1, 2), (0, 1), (2, 1), 1),
    "odd output": ((2, 64, 4, 4), 33, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "channels in fours": ((2, 36, 4, 5), 36, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "wide groups": ((1, 64, 5, 5), 80, (3, 3), (2, 2), (1, 1), (1, 1), 2),
    "odd wide groups": ((1, 70, 3, 4), 66, (2, 2), (1, 1), (1, 1), (1, 1), 2),
    "more tiles than one": ((4, 8, 7, 9), 136, (3, 2), (1, 1), (1, 1), (1, 1), 1),
    "one pixel": ((1, 32, 1, 1), 32, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "one channel": ((3, 1, 5, 5), 1, (3, 3), (1, 1), (1, 1), (1, 1), 1),
}
# Each in its own way: dense channels or not, aligned or not. On a GPU there is time for all.
LAYOUTS = ("contiguous", "channels_last", "dimension 3 sliced", "channels_last sliced")
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


ON_CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
# The kernels are the same for both classes: one is enough where places in memory are looked at.
both_classes = pytest.mark.parametrize(
    "place", ["emulated H", "emulated A", ON_CUDA], indirect=True
)


@pytest.fixture(params=["emulated H", ON_CUDA])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A device, and the precision that reproduces its tensor cores."""
    if request.param == "cuda":
        major, _ = torch.cuda.get_device_capability()
        if major < 8:
            pytest.skip("tensor cores of an unknown class")
        yield "cuda", "tensor-A" if major == 8 else "tensor-H"
        return
    library = operators()
    if request.param.endswith("A"):
        library.device(800, 2)
    yield "emulated", "tensor-" + request.param[-1]
    library.device()


def epilogue(problem: Any, dtype: torch.dtype, output: Tensor, activation: str) -> list[Any]:
    out = problem[1]
    mean, weight, bias = (normal(name, out).to(dtype) for name in ("mean", "scale", "shift"))
    variance = positive("variance", out).to(dtype)
    residual = normal("residual", *output.shape).to(dtype)
    residual = torch.empty_like(output).copy_(residual)
    return [mean, variance, weight, bias, 1e-5, residual, activation, 0.2]


@dtypes
@problems
def test_equals_cpu(place: tuple[str, str], dtype: torch.dtype, problem: Any) -> None:
    device, precision = place
    args = [*conv2d_arguments(problem, dtype), precision]
    x = normal("x", *problem[0]).to(dtype)
    expected: dict[torch.dtype, Tensor] = {}
    for name, view in layouts(x):
        if device == "emulated" and name not in LAYOUTS:
            continue
        found = run(device, "conv2d", view, *args)
        wanted = expected.get(found.stride())
        if wanted is None:
            wanted = expected[found.stride()] = run("cpu", "conv2d", view, *args)
        assert_bits(found, wanted, name)
        assert found.stride() == wanted.stride()


@both_classes
def test_tensor_means_the_own_class(place: tuple[str, str]) -> None:
    device, precision = place
    args = conv2d_arguments(PROBLEMS["windows"], torch.bfloat16)
    x = normal("x", *PROBLEMS["windows"][0]).bfloat16()
    found = run(device, "conv2d", x, *args, "tensor")
    assert_bits(found, run("cpu", "conv2d", x, *args, precision))
    other = {"tensor-A": "tensor-H", "tensor-H": "tensor-A"}[precision]
    with pytest.raises(RuntimeError, match="other class"):
        run(device, "conv2d", x, *args, other)


def test_the_classes_differ() -> None:
    """So that equality with one means something."""
    args = conv2d_arguments(PROBLEMS["windows, strided"], torch.float32)
    x = normal("x", *PROBLEMS["windows, strided"][0])
    a, h, ieee = (run("cpu", "conv2d", x, *args, p) for p in ("tensor-A", "tensor-H", "ieee"))
    assert (a != h).sum() > a.numel() // 10 and (a != ieee).sum() > a.numel() // 2


@both_classes
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("segments", [0, 1, 2])
@dtypes
def test_every_tile_and_split(
    place: tuple[str, str], dtype: torch.dtype, tile: int, segments: int
) -> None:
    """Blocks that each do some segments of an output, and those that do all."""
    device, precision = place
    if precision == "tensor-A" and dtype != DTYPES[(tile + segments) % 3]:
        pytest.skip("class A: each tile and each split in every dtype, not each pair of them")
    for name in ("windows, strided", "more tiles than one", "points, several segments", "stem"):
        args = [*conv2d_arguments(PROBLEMS[name], dtype), precision]
        x = normal("x", *PROBLEMS[name][0]).to(dtype)
        expected = run("cpu", "conv2d", x, *args)
        with forced_plan(device, tile, segments):
            assert_bits(run(device, "conv2d", x, *args), expected, name)


@dtypes
@pytest.mark.parametrize("name", ["windows", "points", "stem", "odd output", "wide groups"])
def test_fused_is_the_separate_operators(
    place: tuple[str, str], name: str, dtype: torch.dtype
) -> None:
    device, precision = place
    problem = PROBLEMS[name]
    args = conv2d_arguments(problem, dtype)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=memory_format)
        y = run("cpu", "conv2d", x, *args, precision)
        # Each plan in both formats and with both activations.
        second = memory_format == torch.contiguous_format
        for i, (tile, segments) in enumerate(((0, 0), (1, 1), (2, 0))):
            activation = ("relu", "silu")[(i + second) % 2]
            after = epilogue(problem, dtype, y, activation)
            with forced_plan(device, tile, segments):
                found = run(device, "conv2d_fused", x, *args, *after, precision)
            expected = run("cpu", "batch_norm", y, *after)
            assert_bits(found, expected, f"{activation}, {tile}, {segments}")


def test_parts_of_an_epilogue(place: tuple[str, str]) -> None:
    device, precision = place
    problem = PROBLEMS["windows"]
    for dtype in (torch.float32, torch.bfloat16):
        args = conv2d_arguments(problem, dtype, bias=False)
        x = normal("x", *problem[0]).to(dtype)
        y = run("cpu", "conv2d", x, *args, precision)
        mean, variance, *_, residual, activation, slope = epilogue(problem, dtype, y, "relu6")
        none = [None] * 4
        for parts, expected in (
            (
                [mean, variance, None, None, 1e-3, None, "none", slope],
                run("cpu", "batch_norm", y, mean, variance, None, None, 1e-3),
            ),
            ([*none, 0.0, residual, "none", slope], y + residual),
            ([*none, 0.0, None, activation, slope], run("cpu", "relu6", y)),
        ):
            assert_bits(run(device, "conv2d_fused", x, *args, *parts, precision), expected)


@problems
def test_sample_alone_and_in_a_batch(place: tuple[str, str], problem: Any) -> None:
    device, precision = place
    args = [*conv2d_arguments(problem, torch.bfloat16), precision]
    x = normal("x", 3, *problem[0][1:]).bfloat16()
    crowd = nan_filled(3, *problem[0][1:], dtype=torch.bfloat16)
    whole = run(device, "conv2d", x, *args)
    for at in (0, 2):
        assert_bits(run(device, "conv2d", x[at : at + 1], *args), whole[at : at + 1])
        crowd[at] = x[at]
        assert_bits(run(device, "conv2d", crowd, *args)[at], whole[at], "beside NaN")
        crowd[at] = INF
        assert not run(device, "conv2d", crowd, *args)[at].isfinite().all()
        crowd[at] = float("nan")


@dtypes
@pytest.mark.parametrize("name", ["windows", "stem", "points", "odd wide groups"])
def test_special_values(place: tuple[str, str], name: str, dtype: torch.dtype) -> None:
    """Infinite weights on padding, NaN, subnormal numbers, zeros of both signs, any bits at all."""
    device, precision = place
    problem = PROBLEMS[name]
    weight, bias, *rest = conv2d_arguments(problem, dtype)
    infinite = torch.where(weight > 1.5, torch.tensor(INF, dtype=dtype), weight)
    x = normal("x", *problem[0]).to(dtype)
    sources = (
        (with_specials(x), weight),
        (x, infinite),
        (any_bits("x", problem[0], dtype), weight),
        (any_bits("x", problem[0], dtype), any_bits("w", weight.shape, dtype)),
        (-torch.zeros(problem[0], dtype=dtype), weight),
    )
    for i, (source, w) in enumerate(sources):
        for segments in (0, 1):
            shift = (bias, None)[(i + segments) % 2]
            expected = run("cpu", "conv2d", source, w, shift, *rest, precision)
            with forced_plan(device, segments, segments):
                found = run(device, "conv2d", source, w, shift, *rest, precision)
            assert_bits(found, expected)


@both_classes
def test_rounding_to_tf32(place: tuple[str, str]) -> None:
    """Ties go away from zero, the largest become infinite, a NaN may be all in the low bits."""
    device, precision = place
    low = torch.tensor([0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF], dtype=torch.int64)
    high = torch.tensor(
        [0, 1, 0x3FBFF, 0x3FC00, 0x3FC01, 0x1FC00, 0x1FC01, 0x20000, 0x200, 0x3FFFF]
    )
    high = torch.cat(
        [high, torch.tensor([0x3FDFF, 0x3FE00, 0x1FBFF]), torch.arange(0x1F7F0, 0x1F810)]
    )
    bits = (high[:, None] * 0x2000 + low).flatten()
    x = torch.where(bits >= 2**31, bits - 2**32, bits).to(torch.int32).view(torch.float32)
    x = torch.cat([x, -x])[:, None]
    for value in (1.0, 0.75, -3.0):
        weight = torch.full((8, 1), value)
        assert_bits(
            run(device, "linear", x, weight, None, precision),
            run("cpu", "linear", x, weight, None, precision),
        )
        # The other operand.
        one = torch.full((2, 1), value)
        assert_bits(
            run(device, "linear", one, x, None, precision),
            run("cpu", "linear", one, x, None, precision),
        )


@dtypes
def test_memory_that_is_not_aligned(place: tuple[str, str], dtype: torch.dtype) -> None:
    device, precision = place
    for name in ("windows", "points", "wide groups"):
        problem = PROBLEMS[name]
        weight, *rest = conv2d_arguments(problem, dtype)
        rest.append(precision)
        x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=torch.channels_last)
        moved = torch.empty(x.numel() + 1, dtype=dtype)[1:].as_strided(x.shape, x.stride())
        expected = run("cpu", "conv2d", x, weight, *rest)
        assert_bits(run(device, "conv2d", moved.copy_(x), weight, *rest), expected, name)
        panel = weight.permute(2, 3, 1, 0).contiguous()
        far = torch.empty(panel.numel() + 1, dtype=dtype)[1:].view(panel.shape).copy_(panel)
        assert_bits(run(device, "conv2d", x, far.permute(3, 2, 0, 1), *rest), expected, name)


@dtypes
@problems
def test_nothing_beside_the_operands_is_read(
    place: tuple[str, str], dtype: torch.dtype, problem: Any
) -> None:
    """Not even where the other factor is +0."""
    device, precision = place
    weight, bias, *rest = conv2d_arguments(problem, dtype)
    rest.append(precision)
    x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = run("cpu", "conv2d", x, weight, bias, *rest)
    panel = beside_nan(weight.permute(2, 3, 1, 0).contiguous()).permute(3, 2, 0, 1)
    for tile, segments in ((0, 0), (1, 1)):
        with forced_plan(device, tile, segments):
            found = run(device, "conv2d", beside_nan(x), panel, beside_nan(bias), *rest)
        assert_bits(found, expected)


def test_nothing_to_do(place: tuple[str, str]) -> None:
    device, precision = place
    weight = torch.zeros(4, 0, 3, 3)
    bias = normal("bias", 4)
    args = [[1, 1], [1, 1], [1, 1], 1, precision]
    result = run(device, "conv2d", torch.zeros(2, 0, 5, 5), weight, bias, *args)
    assert_bits(result, bias[:, None, None].expand(2, 4, 5, 5).contiguous())
    x = torch.zeros(0, 3, 5, 5)
    assert run(device, "conv2d", x, torch.zeros(4, 3, 3, 3), None, *args).shape == (0, 4, 5, 5)


@dtypes
@pytest.mark.parametrize(
    ("shape", "columns"),
    # Fours and odd ones, several segments whole and broken, more tiles than one each way.
    [((1, 1), 1), ((3, 8), 16), ((5, 300), 40), ((2, 7, 129), 33), ((70, 256), 72), ((7,), 10)],
    ids=str,
)
def test_linear(
    place: tuple[str, str], dtype: torch.dtype, shape: tuple[int, ...], columns: int
) -> None:
    device, precision = place
    weight, bias = normal("weight", columns, shape[-1]).to(dtype), normal("b", columns).to(dtype)
    x = normal("x", *shape).to(dtype)
    residual = normal("r", *shape[:-1], columns).to(dtype)
    expected = run("cpu", "linear", x, weight, bias, precision)
    fused = run("cpu", "relu", expected + residual)
    # The plan's own choice; then each tile, with both orders of the weight between the operators.
    panels = [weight, weight.T.contiguous().T]
    for tile, segments in ((-1, 0), (0, 1), (1, 2), (2, 0)):
        with forced_plan(device, tile, segments):
            assert_bits(run(device, "linear", x, panels[0], bias, precision), expected)
            args = [x, panels[1], bias, residual, "relu", 0.01, precision]
            assert_bits(run(device, "linear_fused", *args), fused)
        panels.reverse()
    if x.numel() > 10_000 and device == "emulated":
        return  # the smaller shapes have them
    for name, view in layouts(x):
        assert_bits(run(device, "linear", view, weight, bias, precision), expected, name)


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize(("arch", "multiprocessors"), [(860, 2), (900, 1), (900, 200), (1200, 9)])
def test_any_device(controls: Any, arch: int, multiprocessors: int) -> None:
    """The plan follows the device; the bits follow its class alone."""
    controls.device(arch, multiprocessors)
    precision = "tensor-A" if arch < 900 else "tensor-H"
    for name in ("windows, strided", "more tiles than one", "points, several segments", "stem"):
        args = [*conv2d_arguments(PROBLEMS[name], torch.float16), precision]
        x = normal("x", *PROBLEMS[name][0]).half()
        assert_bits(run("emulated", "conv2d", x, *args), run("cpu", "conv2d", x, *args), name)


def test_no_tensor_cores_of_a_known_class(controls: Any) -> None:
    controls.device(750, 2)
    args = conv2d_arguments(PROBLEMS["windows"], torch.float16)
    with pytest.raises(RuntimeError, match="not known"):
        run("emulated", "conv2d", normal("x", *PROBLEMS["windows"][0]).half(), *args, "tensor")


@settings(max_examples=15)
@given(st.data())
def test_any_shape(data: Any) -> None:
    draw = data.draw
    operators().seed(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    width = st.sampled_from([1, 3, 4, 8, 12, 24, 33, 40] if groups == 1 else [32, 33, 40])
    channels = groups * draw(width)
    out = groups * draw(st.sampled_from([1, 2, 4, 5, 16, 34, 40]))
    name, view, args = drawn_convolution(draw, channels, out, groups, DTYPES)
    expected = run("cpu", "conv2d", view, *args, "tensor-H")
    with forced_plan("emulated", draw(st.integers(-1, 2)), draw(st.integers(0, 3))):
        assert_bits(run("emulated", "conv2d", view, *args, "tensor-H"), expected, name)


# ---- What only a GPU shows -----------------------------------------------------------------------

LARGE = {
    "64 channels": ((2, 64, 56, 56), 64, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "512 channels": ((2, 512, 7, 7), 512, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "wide": ((2, 256, 28, 28), 512, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "large stem": ((2, 3, 112, 112), 64, (7, 7), (2, 2), (3, 3), (1, 1), 1),
}


@pytest.mark.cuda
@dtypes
@pytest.mark.parametrize("problem", LARGE.values(), ids=LARGE)
def test_layers_of_real_sizes(dtype: torch.dtype, problem: Any) -> None:
    """Every tile and split agree; a few pixels are compared with the CPU."""
    precision = "tensor-A" if torch.cuda.get_device_capability()[0] == 8 else "tensor-H"
    args = conv2d_arguments(problem, dtype)
    x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=torch.channels_last)
    results = []
    for tile in (-1, *TILES):
        for segments in (0, 1, 5):
            with forced_plan("cuda", tile, segments):
                results.append(run("cuda", "conv2d", x, *args, precision))
            assert_bits(results[-1], results[0], f"{tile}, {segments}")
    weight, bias, stride, padding, dilation, _ = args
    kernel = problem[2]
    reach = [kernel[0] + 2 * stride[0], kernel[1] + 2 * stride[1]]
    # The corner of the second sample, with its padding, and nothing of the first.
    corner = x[1:, :, : reach[0], : reach[1]]
    expected = run("cpu", "conv2d", corner, weight, bias, stride, padding, dilation, 1, precision)
    assert_bits(results[0][1:, :, :2, :2], expected[:, :, :2, :2])


@pytest.mark.cuda
@pytest.mark.parametrize("segments", [0, 1])
def test_on_a_side_stream_and_in_a_graph(segments: int) -> None:
    precision = "tensor-A" if torch.cuda.get_device_capability()[0] == 8 else "tensor-H"
    problem = PROBLEMS["windows, strided"]
    args = [*conv2d_arguments(problem, torch.bfloat16), precision]
    x = normal("x", *problem[0]).bfloat16()
    moved = [v.cuda() if isinstance(v, Tensor) else v for v in args]
    gx = x.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with forced_plan("cuda", 0, segments), torch.no_grad():
        with torch.cuda.stream(stream):
            results = [torch.ops.bninv.conv2d(gx, *moved) for _ in range(3)]
        stream.synchronize()
        for result in results:
            assert_bits(result.cpu(), run("cpu", "conv2d", x, *args))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = torch.ops.bninv.conv2d(gx, *moved)
    for scale in (1, 3):
        gx.copy_(x * scale)
        graph.replay()
        assert_bits(result.cpu(), run("cpu", "conv2d", x * scale, *args))
