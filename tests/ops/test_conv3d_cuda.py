"""conv3d and transposed convolutions on CUDA have the bits of the CPU: emulated everywhere, on a
GPU with `-m cuda`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.emulated import forced_plan, operators, run
from tests.support.properties import (
    INF,
    any_bits,
    assert_bits,
    beside_nan,
    layouts,
    nan_filled,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING, NARROW

ONES, ZEROS = (1, 1, 1), (0, 0, 0)
# input, out_channels, kernel, stride, padding, dilation, groups
DIRECT = {
    "windows": ((2, 8, 4, 5, 6), 12, (3, 3, 3), ONES, ONES, ONES, 1),
    "several segments": ((1, 20, 3, 4, 5), 36, (3, 3, 3), (1, 2, 1), ONES, ONES, 1),
    "points": ((2, 40, 2, 3, 3), 72, ONES, (1, 2, 1), ZEROS, ONES, 1),
    "stem": ((1, 3, 4, 9, 8), 20, (3, 7, 7), (1, 2, 2), (1, 3, 3), ONES, 1),
    "odd": ((2, 5, 5, 4, 6), 7, (2, 3, 1), (2, 1, 2), (0, 2, 1), (2, 1, 3), 1),
    "wide groups": ((1, 64, 2, 4, 4), 72, (1, 3, 3), ONES, (0, 1, 1), ONES, 2),
    "narrow groups": ((2, 24, 3, 3, 4), 24, (3, 3, 3), ONES, ONES, ONES, 3),
    "odd groups": ((2, 9, 3, 3, 3), 15, (2, 2, 2), (1, 2, 1), (1, 0, 1), ONES, 3),
    "depthwise": ((2, 20, 4, 5, 6), 20, (3, 3, 3), ONES, ONES, ONES, 20),
    "depthwise, two segments": ((1, 3, 6, 7, 5), 3, (6, 6, 4), ONES, (1, 2, 3), ONES, 3),
}
# The last ones in torch's order: stride, padding, output_padding, groups, dilation.
TRANSPOSED = {
    "doubled": ((2, 8, 1, 5, 6), 12, (1, 2, 2), (1, 2, 2), ZEROS, ZEROS, 1, ONES),
    "kernel 4": ((1, 12, 1, 4, 5), 8, (1, 4, 4), (1, 2, 2), (0, 1, 1), ZEROS, 1, ONES),
    "volume": ((2, 12, 2, 3, 3), 20, (3, 3, 3), (2, 2, 1), ONES, (1, 0, 0), 1, ONES),
    "several segments": ((1, 50, 2, 3, 3), 5, (2, 3, 3), (1, 2, 2), (0, 1, 0), ZEROS, 1, ONES),
    "gaps": ((2, 5, 3, 2, 4), 7, (2, 1, 2), (3, 2, 4), (1, 0, 0), (2, 1, 3), 1, ONES),
    "dilated": ((1, 6, 3, 4, 5), 4, (2, 3, 2), (2, 3, 1), (1, 2, 0), (1, 0, 1), 1, (4, 2, 3)),
    "groups": ((2, 24, 2, 3, 4), 24, (2, 3, 3), (1, 2, 2), ONES, (0, 1, 1), 3, ONES),
    "odd groups": ((2, 9, 1, 3, 3), 15, (1, 3, 2), (1, 2, 1), ZEROS, ZEROS, 3, ONES),
    "depthwise": ((2, 20, 1, 5, 6), 20, (1, 4, 4), (1, 2, 2), (0, 1, 1), ZEROS, 20, ONES),
    "depthwise, two segments": ((1, 3, 3, 4, 5), 3, (6, 6, 4), ONES, (1, 2, 3), ZEROS, 3, ONES),
    "one voxel": ((2, 16, 1, 1, 1), 8, (2, 4, 4), ONES, ZEROS, ZEROS, 1, ONES),
}
PROBLEMS = {
    **{f"conv3d, {label}": ("conv3d", *problem) for label, problem in DIRECT.items()},
    **{f"transposed, {label}": ("conv_transpose3d", *p) for label, p in TRANSPOSED.items()},
}
# Each in its own way: dense channels or not, aligned or not. On a GPU all are run.
EMULATED_LAYOUTS = {
    (dtype, layout)
    for dtype in FLOATING
    for layout in ("contiguous", "channels_last_3d", "dimension 4 sliced")
} | {(torch.float32, layout) for layout in ("every second element", "storage offset 1")}
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def arguments(problem: Any, dtype: torch.dtype, bias: bool = True) -> list[Any]:
    """Behind the input."""
    name, (_, channels, *_), out, kernel, *rest = problem
    shift = normal("bias", out).to(dtype) if bias else None
    if name == "conv3d":
        weight = normal("weight", out, channels // rest[-1], *kernel)
    else:
        weight = normal("weight", channels, out // rest[-2], *kernel)
    return [weight.to(dtype), shift, *(v if isinstance(v, int) else list(v) for v in rest)]


@floating
@problems
def test_equals_cpu(device: str, dtype: torch.dtype, problem: Any) -> None:
    name, shape = problem[:2]
    args = arguments(problem, dtype)
    for layout, view in layouts(normal("x", *shape).to(dtype)):
        if device == "emulated" and (dtype, layout) not in EMULATED_LAYOUTS:
            continue
        expected = run("cpu", name, view, *args)
        found = run(device, name, view, *args)
        assert_bits(found, expected, layout)
        assert found.stride() == expected.stride()


@pytest.mark.parametrize("tile", range(5))
@pytest.mark.parametrize("segments", [0, 1, 2])
def test_every_tile_and_split(device: str, tile: int, segments: int) -> None:
    for dtype in (torch.float32, *NARROW):
        for label in ("windows", "several segments", "points"):
            problem = PROBLEMS[f"conv3d, {label}"]
            args = arguments(problem, dtype)
            x = normal("x", *problem[1]).to(dtype)
            expected = run("cpu", "conv3d", x, *args)
            with forced_plan(device, tile, segments):
                assert_bits(run(device, "conv3d", x, *args), expected, f"{label}, {dtype}")


@pytest.mark.parametrize("segments", [0, 1])
@pytest.mark.parametrize("label", ["stem", "odd", "wide groups"])
def test_tiles_of_single_elements(device: str, label: str, segments: int) -> None:
    problem = PROBLEMS[f"conv3d, {label}"]
    for dtype in FLOATING:
        args = arguments(problem, dtype, bias=False)
        x = normal("x", *problem[1]).to(dtype)
        for tile in (2, 4):
            with forced_plan(device, tile, segments):
                found = run(device, "conv3d", x, *args)
            assert_bits(found, run("cpu", "conv3d", x, *args), f"{dtype}, {tile}")


@problems
def test_sample_alone_and_in_a_batch(device: str, problem: Any) -> None:
    name, shape = problem[:2]
    args = arguments(problem, torch.float32)
    x, crowd = normal("x", 4, *shape[1:]), nan_filled(4, *shape[1:])
    whole = run(device, name, x, *args)
    for at in (0, 3):
        assert_bits(run(device, name, x[at : at + 1], *args), whole[at : at + 1])
        crowd[at] = x[at]
        assert_bits(run(device, name, crowd, *args)[at], whole[at], "beside NaN")
        crowd[at] = float("nan")


@problems
def test_special_values(device: str, problem: Any) -> None:
    """Infinite weights on padding and on absent taps, NaN, subnormal numbers, any bits at all."""
    name, shape = problem[:2]
    for dtype in (torch.float32, torch.float16):
        weight, *rest = arguments(problem, dtype)
        infinite = torch.where(weight > 1.5, torch.tensor(INF, dtype=dtype), weight)
        x = normal("x", *shape).to(dtype)
        for a, b in (
            (with_specials(x), weight),
            (x, infinite),
            (any_bits("x", shape, dtype), any_bits("w", weight.shape, dtype)),
            (-torch.zeros_like(x), weight),
        ):
            assert_bits(run(device, name, a, b, *rest), run("cpu", name, a, b, *rest), str(dtype))


@problems
def test_nothing_beside_the_operands_is_read(device: str, problem: Any) -> None:
    """Not even where the other factor is +0; nor with a panel or memory that is not aligned."""
    name, shape = problem[:2]
    order = (2, 3, 4, 1, 0) if name == "conv3d" else (2, 3, 4, 0, 1)
    inverse = [order.index(d) for d in range(5)]
    for dtype in FLOATING:
        weight, bias, *rest = arguments(problem, dtype)
        x = normal("x", *shape).to(dtype).contiguous(memory_format=torch.channels_last_3d)
        expected = run("cpu", name, x, weight, bias, *rest)
        panel = weight.permute(order).contiguous()
        around = beside_nan(panel).permute(inverse)
        assert_bits(run(device, name, beside_nan(x), around, beside_nan(bias), *rest), expected)
        far = torch.empty(panel.numel() + 1, dtype=dtype)[1:].view(panel.shape).copy_(panel)
        assert_bits(run(device, name, x, far.permute(inverse), bias, *rest), expected)


def test_nothing_to_do(device: str) -> None:
    bias = normal("bias", 4)
    args = [bias, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1]
    x, weight = torch.zeros(2, 0, 3, 3, 3), torch.zeros(4, 0, 3, 3, 3)
    expected = bias[:, None, None, None].expand(2, 4, 3, 3, 3).contiguous()
    assert_bits(run(device, "conv3d", x, weight, *args), expected)
    args = [bias, [1, 1, 1], [1, 1, 1], [0, 0, 0], 1, [1, 1, 1]]
    assert_bits(run(device, "conv_transpose3d", x, weight.transpose(0, 1), *args), expected)
    x = torch.zeros(0, 3, 3, 3, 3)
    assert run(device, "conv_transpose3d", x, torch.zeros(3, 4, 3, 3, 3), *args).shape[0] == 0


def test_sizes_that_a_gpu_kernel_does_not_count() -> None:
    x, weight = torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 1, 1, 1, 1)
    args = [weight, None, [1, 2**31 - 1, 1], [0, 2**30, 0], [1, 1, 1], 1]
    with pytest.raises(RuntimeError, match="`padding`.*2\\^29"):
        run("emulated", "conv3d", x, *args)


@given(st.data())
def test_any_shape(data: Any) -> None:
    draw = data.draw
    operators().seed(draw(st.integers(0, 2**32)))
    small, dtype = st.integers(1, 3), draw(st.sampled_from(FLOATING))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, out = (groups * draw(st.sampled_from([1, 2, 4, 8, 33])) for _ in range(2))
    kernel, stride, dilation = ([draw(small) for _ in range(3)] for _ in range(3))
    padding = [draw(st.integers(0, 2)) for _ in range(3)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    extra = [draw(st.integers(0, 4)) for _ in range(3)]
    if draw(st.booleans()):
        least = [max(1, n - 2 * p) for n, p in zip(reach, padding, strict=True)]
        name, weight = "conv3d", normal("w", out, channels // groups, *kernel)
        rest = [stride, padding, dilation, groups]
    else:
        least = [1 + max(0, 2 * p - n + 1) for n, p in zip(reach, padding, strict=True)]
        more = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
        name, weight = "conv_transpose3d", normal("w", channels, out // groups, *kernel)
        rest = [stride, padding, more, groups, dilation]
    size = [n + e for n, e in zip(least, extra, strict=True)]
    x = normal("x", draw(small), channels, *size).to(dtype)
    views = list(layouts(x))
    layout, view = views[draw(st.integers(0, len(views) - 1))]
    args = [weight.to(dtype), normal("b", out).to(dtype) if draw(st.booleans()) else None, *rest]
    expected = run("cpu", name, view, *args)
    with forced_plan("emulated", draw(st.integers(-1, 4)), draw(st.integers(0, 3))):
        assert_bits(run("emulated", name, view, *args), expected, layout)
