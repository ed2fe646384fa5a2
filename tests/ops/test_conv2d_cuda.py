"""conv2d on CUDA has the bits of the CPU: emulated everywhere, on a GPU with `-m cuda`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
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
from tests.support.reference_dtypes import FLOATING, NARROW

TILES = range(5)
# input, out_channels, kernel, stride, padding, dilation, groups
PROBLEMS = {
    "windows": ((2, 8, 9, 7), 12, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "several segments": ((1, 40, 5, 6), 20, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "more tiles than one": ((3, 4, 7, 9), 140, (3, 2), (1, 1), (1, 1), (1, 1), 1),
    "points": ((3, 40, 5, 5), 72, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "points, several segments": ((2, 300, 3, 3), 40, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "points, strided": ((2, 24, 7, 6), 36, (1, 1), (2, 3), (0, 0), (1, 1), 1),
    "points, padded": ((2, 8, 4, 4), 8, (1, 1), (1, 1), (2, 1), (1, 1), 1),
    "stem": ((2, 3, 17, 13), 20, (7, 7), (2, 2), (3, 3), (1, 1), 1),
    "odd channels": ((2, 5, 6, 7), 7, (2, 3), (1, 2), (0, 1), (2, 1), 1),
    "odd output": ((2, 64, 4, 4), 33, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "wide groups": ((1, 64, 5, 5), 72, (3, 3), (2, 2), (1, 1), (1, 1), 2),
    "odd wide groups": ((1, 70, 3, 4), 66, (2, 2), (1, 1), (1, 1), (1, 1), 2),
    "narrow groups": ((2, 24, 6, 5), 24, (3, 3), (2, 1), (1, 1), (1, 1), 3),
    "groups of four": ((2, 16, 6, 9), 16, (3, 3), (1, 1), (1, 1), (1, 1), 4),
    "odd groups": ((2, 9, 5, 5), 15, (3, 3), (1, 1), (2, 1), (2, 1), 3),
    "depthwise": ((2, 20, 7, 9), 20, (3, 3), (1, 1), (1, 1), (1, 1), 20),
    "depthwise, odd": ((2, 10, 8, 6), 10, (5, 5), (2, 2), (2, 2), (1, 1), 10),
    "depthwise, two segments": ((1, 4, 14, 15), 4, (12, 11), (1, 1), (3, 5), (1, 1), 4),
    "one pixel": ((1, 32, 1, 1), 32, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "one channel": ((3, 1, 5, 5), 1, (3, 3), (1, 1), (1, 1), (1, 1), 1),
}
# Each in its own way: dense channels or not, aligned or not. In float32, and on a GPU, all are run.
LAYOUTS = ("contiguous", "channels_last", "dimension 3 sliced", "channels_last sliced")
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def epilogue(problem: Any, dtype: torch.dtype, output: Tensor, activation: str) -> list[Any]:
    out = problem[1]
    mean, weight, bias = (normal(name, out).to(dtype) for name in ("mean", "scale", "shift"))
    variance = positive("variance", out).to(dtype)
    residual = normal("residual", *output.shape).to(dtype)
    return [mean, variance, weight, bias, 1e-5, residual, activation, 0.2]


@floating
@problems
def test_equals_cpu(device: str, dtype: torch.dtype, problem: Any) -> None:
    args = conv2d_arguments(problem, dtype)
    x = normal("x", *problem[0]).to(dtype)
    for name, view in layouts(x):
        if device == "emulated" and dtype != torch.float32 and name not in LAYOUTS:
            continue
        expected = run("cpu", "conv2d", view, *args)
        found = run(device, "conv2d", view, *args)
        assert_bits(found, expected, name)
        assert found.stride() == expected.stride()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("segments", [0, 1, 2])
def test_every_tile_and_split(device: str, tile: int, segments: int) -> None:
    """Blocks that each do some segments of an output, and those that do all."""
    for dtype in (torch.float32, *NARROW):
        for name in ("several segments", "more tiles than one", "points, several segments"):
            args = conv2d_arguments(PROBLEMS[name], dtype)
            x = normal("x", *PROBLEMS[name][0]).to(dtype)
            expected = run("cpu", "conv2d", x, *args)
            with forced_plan(device, tile, segments):
                assert_bits(run(device, "conv2d", x, *args), expected, f"{name}, {dtype}")


@pytest.mark.parametrize("segments", [0, 1])
@pytest.mark.parametrize("name", ["stem", "odd channels", "odd output", "odd wide groups"])
def test_tiles_of_single_elements(device: str, name: str, segments: int) -> None:
    for dtype in FLOATING:
        args = conv2d_arguments(PROBLEMS[name], dtype, bias=False)
        x = normal("x", *PROBLEMS[name][0]).to(dtype)
        for tile in (2, 4):
            with forced_plan(device, tile, segments):
                found = run(device, "conv2d", x, *args)
            assert_bits(found, run("cpu", "conv2d", x, *args), f"{dtype}, {tile}")


@floating
@pytest.mark.parametrize("name", ["windows", "points", "stem", "depthwise", "groups of four"])
def test_fused_is_the_separate_operators(device: str, name: str, dtype: torch.dtype) -> None:
    problem = PROBLEMS[name]
    args = conv2d_arguments(problem, dtype)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=memory_format)
        y = run("cpu", "conv2d", x, *args)
        # Each activation in both formats, in one of them with blocks that split outputs.
        second = memory_format == torch.contiguous_format
        for i, activation in enumerate(("none", "relu", "hardswish", "leaky_relu", "silu")):
            if dtype == torch.float64 and activation == "silu":
                continue
            after = epilogue(problem, dtype, y, activation)
            expected = run("cpu", "batch_norm", y, *after)
            assert_bits(run("cpu", "conv2d_fused", x, *args, *after), expected, "CPU")
            segments = (i + second) % 2
            with forced_plan(device, 4, segments):
                found = run(device, "conv2d_fused", x, *args, *after)
            assert_bits(found, expected, f"{activation}, {segments}")


def test_parts_of_an_epilogue(device: str) -> None:
    problem = PROBLEMS["windows"]
    for dtype in (torch.float32, torch.bfloat16):
        args = conv2d_arguments(problem, dtype, bias=False)
        x = normal("x", *problem[0]).to(dtype)
        y = run("cpu", "conv2d", x, *args)
        mean, variance, *_, residual, activation, slope = epilogue(problem, dtype, y, "relu6")
        none = [None] * 4
        for parts, expected in {
            "norm": ([mean, variance, None, None, 1e-3, None, "none", slope], None),
            "residual": ([*none, 0.0, residual, "none", slope], y + residual),
            "activation": ([*none, 0.0, None, activation, slope], run("cpu", "relu6", y)),
            "both": ([*none, 0.0, residual, "relu", slope], run("cpu", "relu", y + residual)),
        }.values():
            if expected is None:
                expected = run("cpu", "batch_norm", y, mean, variance, None, None, 1e-3)
            assert_bits(run("cpu", "conv2d_fused", x, *args, *parts), expected)
            assert_bits(run(device, "conv2d_fused", x, *args, *parts), expected)


@problems
def test_sample_alone_and_in_a_batch(device: str, problem: Any) -> None:
    args = conv2d_arguments(problem, torch.float32)
    x = normal("x", 5, *problem[0][1:])
    crowd = nan_filled(5, *problem[0][1:])
    whole = run(device, "conv2d", x, *args)
    for at in (0, 3):
        assert_bits(run(device, "conv2d", x[at : at + 1], *args), whole[at : at + 1])
        crowd[at] = x[at]
        assert_bits(run(device, "conv2d", crowd, *args)[at], whole[at], "beside NaN")
        crowd[at] = float("nan")


@pytest.mark.parametrize("name", ["windows", "stem", "depthwise", "groups of four", "wide groups"])
def test_special_values(device: str, name: str) -> None:
    """Infinite weights on padding, NaN, subnormal numbers, zeros of both signs, any bits at all."""
    problem = PROBLEMS[name]
    for dtype in FLOATING:
        weight, bias, *rest = conv2d_arguments(problem, dtype)
        infinite = torch.where(weight > 1.5, torch.tensor(INF, dtype=dtype), weight)
        sources = (
            (with_specials(normal("x", *problem[0]).to(dtype)), weight),
            (normal("x", *problem[0]).to(dtype), infinite),
            (any_bits("x", problem[0], dtype), any_bits("w", weight.shape, dtype)),
            (-torch.zeros(problem[0], dtype=dtype), weight),
        )
        for i, (x, w) in enumerate(sources):
            for segments in (0, 1):
                shift = (bias, None)[(i + segments) % 2]
                expected = run("cpu", "conv2d", x, w, shift, *rest)
                with forced_plan(device, 4, segments):
                    assert_bits(run(device, "conv2d", x, w, shift, *rest), expected, str(dtype))


def test_memory_that_is_not_aligned(device: str) -> None:
    for dtype in FLOATING:
        for name in ("windows", "points", "depthwise", "groups of four"):
            problem = PROBLEMS[name]
            weight, *rest = conv2d_arguments(problem, dtype)
            x = normal("x", *problem[0]).to(dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            moved = torch.empty(x.numel() + 1, dtype=dtype)[1:].as_strided(x.shape, x.stride())
            expected = run("cpu", "conv2d", x, weight, *rest)
            assert_bits(run(device, "conv2d", moved.copy_(x), weight, *rest), expected, name)
            panel = weight.permute(2, 3, 1, 0).contiguous()
            far = torch.empty(panel.numel() + 1, dtype=dtype)[1:].view(panel.shape).copy_(panel)
            assert_bits(run(device, "conv2d", x, far.permute(3, 2, 0, 1), *rest), expected, name)


@problems
def test_nothing_beside_the_operands_is_read(device: str, problem: Any) -> None:
    """Not even where the other factor is +0."""
    for dtype in FLOATING:
        weight, bias, *rest = conv2d_arguments(problem, dtype)
        x = normal("x", *problem[0]).to(dtype).contiguous(memory_format=torch.channels_last)
        expected = run("cpu", "conv2d", x, weight, bias, *rest)
        panel = beside_nan(weight.permute(2, 3, 1, 0).contiguous()).permute(3, 2, 0, 1)
        for segments in (0, 1):
            with forced_plan(device, 4, segments):
                found = run(device, "conv2d", beside_nan(x), panel, beside_nan(bias), *rest)
            assert_bits(found, expected, str(dtype))


def test_large_batch(device: str) -> None:
    """More samples than a grid is high."""
    for name in ("windows", "depthwise"):
        args = conv2d_arguments(PROBLEMS[name], torch.float32)
        x = normal("x", 1, PROBLEMS[name][0][1], 1, 2).expand(65537, -1, -1, -1)
        found = run(device, "conv2d", x, *args)
        assert_bits(found, run("cpu", "conv2d", x[:1], *args).expand_as(found))


def test_nothing_to_do(device: str) -> None:
    weight = torch.zeros(4, 0, 3, 3)
    bias = normal("bias", 4)
    result = run(device, "conv2d", torch.zeros(2, 0, 5, 5), weight, bias, [1, 1], [1, 1], [1, 1], 1)
    assert_bits(result, bias[:, None, None].expand(2, 4, 5, 5).contiguous())
    args = [torch.zeros(4, 3, 3, 3), None, [1, 1], [1, 1], [1, 1], 1]
    assert run(device, "conv2d", torch.zeros(0, 3, 5, 5), *args).shape == (0, 4, 5, 5)


def test_sizes_that_a_gpu_kernel_does_not_count() -> None:
    x, weight = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 1, 1)
    args = [weight, None, [2**31 - 1, 1], [2**30, 0], [1, 1], 1]
    with pytest.raises(RuntimeError, match="`padding`.*2\\^29"):
        run("emulated", "conv2d", x, *args)


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize(("arch", "multiprocessors"), [(750, 1), (860, 2), (900, 200)])
def test_any_device(controls: Any, arch: int, multiprocessors: int) -> None:
    """The plan follows the device; the bits do not."""
    controls.device(arch, multiprocessors)
    for name in ("several segments", "more tiles than one", "points, several segments", "stem"):
        args = conv2d_arguments(PROBLEMS[name], torch.float32)
        x = normal("x", *PROBLEMS[name][0])
        expected = run("cpu", "conv2d", x, *args)
        assert_bits(run("emulated", "conv2d", x, *args), expected, name)


@given(st.data())
def test_any_shape(data: Any) -> None:
    draw = data.draw
    operators().seed(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from([1, 1, 2, 3, 5]))
    channels = groups * draw(st.sampled_from([1, 2, 3, 4, 8, 12, 33, 36]))
    out = groups * draw(st.sampled_from([1, 2, 4, 5, 16, 34, 40]))
    name, view, args = drawn_convolution(draw, channels, out, groups, FLOATING)
    expected = run("cpu", "conv2d", view, *args)
    with forced_plan("emulated", draw(st.integers(-1, 4)), draw(st.integers(0, 3))):
        assert_bits(run("emulated", "conv2d", view, *args), expected, name)


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("segments", [0, 1])
def test_on_a_side_stream_and_in_a_graph(segments: int) -> None:
    """With a workspace, which a graph keeps, and without."""
    problem = PROBLEMS["several segments"]
    args = conv2d_arguments(problem, torch.float32)
    x = normal("x", *problem[0])
    moved = [v.cuda() if isinstance(v, Tensor) else v for v in args]
    gx = x.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with forced_plan("cuda", 2, segments), torch.no_grad():
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


@pytest.mark.cuda
@pytest.mark.slow
def test_more_than_2_to_the_31_elements() -> None:
    channels, samples = 8, 2**20 + 1
    args = [normal("w", 8, channels, 3, 3), normal("b", 8), [1, 1], [1, 1], [1, 1], 1]
    moved = [v.half().cuda() if isinstance(v, Tensor) else v for v in args]
    args = [v.half() if isinstance(v, Tensor) else v for v in args]
    x = torch.empty(samples, channels, 16, 17, dtype=torch.float16, device="cuda").normal_()
    x = x.contiguous(memory_format=torch.channels_last)
    result = torch.ops.bninv.conv2d(x, *moved)
    for start in (0, samples // 2, samples - 3):
        part = x[start : start + 3].cpu()
        assert_bits(result[start : start + 3].cpu(), run("cpu", "conv2d", part, *args))
