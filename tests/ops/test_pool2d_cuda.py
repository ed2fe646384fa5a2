"""Pooling on CUDA has the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import (
    any_bits,
    assert_bits,
    expansions,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING

# kernel_size, stride, padding, ceil_mode: windows of up to 16 terms belong to one thread, larger
# ones to a block; windows that padding cuts, that overlap, that leave elements out.
WINDOWS = [
    ([1, 1], [1, 1], [0, 0], False),
    ([2, 2], [2, 2], [0, 0], False),
    ([3, 3], [2, 2], [1, 1], True),
    ([3, 3], [1, 1], [1, 1], False),
    ([2, 4], [3, 1], [1, 2], False),
    ([4, 4], [2, 3], [2, 0], True),
    ([5, 3], [3, 2], [2, 1], False),
    ([6, 9], [1, 2], [3, 4], True),
]
# Less than a vector of channels, whole and broken vectors, more than a block's 32 columns.
SHAPES = [(1, 1, 6, 9), (3, 3, 7, 11), (2, 16, 9, 9), (1, 35, 6, 9), (1, 72, 5, 7)]
OUTPUT_SIZES = [[1, 1], [2, 3], [5, 4], [9, 13]]

Call = tuple[str, tuple]


def calls(window: tuple) -> Iterator[Call]:
    kernel_size, stride, padding, ceil_mode = window
    for count_include_pad, divisor in ((False, None), (True, None), (False, 7), (True, -3)):
        yield "avg_pool2d", (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)
    for dilation in ([1, 1], [2, 1]):
        if kernel_size[0] < 4 or dilation == [1, 1]:
            yield "max_pool2d", (kernel_size, stride, padding, dilation, ceil_mode)


def adaptive_calls(output_size: list[int]) -> Iterator[Call]:
    yield "adaptive_avg_pool2d", (output_size,)
    yield "adaptive_max_pool2d", (output_size,)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@floating
@shapes
def test_windows(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = with_specials(normal("x", *shape, dtype=dtype), share=0.002)
    for window in WINDOWS:
        for call in calls(window):
            assert_as_cpu(device, call[0], channels_last(x), *call[1])


@floating
@shapes
def test_adaptive(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = with_specials(normal("x", *shape, dtype=dtype), share=0.002)
    for output_size in OUTPUT_SIZES:
        for call in adaptive_calls(output_size):
            assert_as_cpu(device, call[0], channels_last(x), *call[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_layouts(device: str, dtype: torch.dtype) -> None:
    for shape in ((2, 16, 5, 6), (3, 5, 4, 5)):
        x = normal("x", *shape, dtype=dtype)
        for name, view in (*layouts(x), *expansions(x)):
            for call in (*list(calls(WINDOWS[2]))[::4], *adaptive_calls([1, 2])):
                assert_as_cpu(device, call[0], view, *call[1], message=name)
        for offset in (1, 2):
            around = torch.empty(x.numel() + 8, dtype=dtype)[offset:][: x.numel()]
            view = around.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2).copy_(x)
            for call in (*list(calls(WINDOWS[2]))[::4], *adaptive_calls([1, 2])):
                assert_as_cpu(
                    device, call[0], view, *call[1], message=f"channels_last, offset {offset}"
                )


@floating
def test_strides_that_no_vector_fits(device: str, dtype: torch.dtype) -> None:
    n, c, h, w = shape = (3, 16, 5, 6)
    for gaps in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        strides = [c + gaps[2]]
        strides.append(w * strides[0] + gaps[1])
        strides.append(h * strides[1] + gaps[0])
        around = normal(gaps, n * strides[2], dtype=dtype)
        x = around.as_strided(shape, (strides[2], 1, strides[1], strides[0]))
        for call in (*list(calls(WINDOWS[3]))[::4], *adaptive_calls([4, 4])):
            assert_as_cpu(device, call[0], x, *call[1], message=f"gaps {gaps}")


@floating
def test_any_bits(device: str, dtype: torch.dtype) -> None:
    x = channels_last(any_bits("x", (3, 24, 9, 9), dtype))
    for call in (*calls(WINDOWS[3]), *calls(WINDOWS[7]), *adaptive_calls([1, 1])):
        assert_as_cpu(device, call[0], x, *call[1])


@floating
def test_many_terms(device: str, dtype: torch.dtype) -> None:
    """Several segments of 4096; sums of -0 are +0, its maximum is -0."""
    x = channels_last(normal("x", 1, 9, 70, 67, dtype=dtype))
    unpadded = ([1, 1], [0, 0], False)
    zeros = channels_last(torch.full((2, 40, 9, 9), -0.0, dtype=dtype))
    for call in (*adaptive_calls([1, 1]), *list(calls(([66, 65], [2, 2], [0, 1], False)))[::4]):
        assert_as_cpu(device, call[0], x, *call[1])
    small = [call for window in ([2, 4], [3, 3], [4, 4]) for call in calls((window, *unpadded))]
    for call in (*small, *adaptive_calls([1, 1]), *adaptive_calls([9, 5]), *adaptive_calls([9, 9])):
        if -3 not in call[1]:
            result = run(device, call[0], zeros, *call[1])
            assert result.signbit().all() if "max" in call[0] else not result.signbit().any()


def test_enough_outputs_for_wide_blocks(device: str) -> None:
    for dtype in FLOATING:
        x = channels_last(normal("x", 7, 70, 8, 5, dtype=dtype))
        for call in (*adaptive_calls([1, 1]), *list(calls(WINDOWS[7]))[::4]):
            assert_as_cpu(device, call[0], x, *call[1])


def test_windows_of_nothing(device: str) -> None:
    """Padding alone: the average of nothing is 0 / 0, its maximum -inf."""
    x = torch.zeros(2, 3, 0, 4)
    for call in list(calls(([2, 2], [1, 1], [1, 1], False)))[:5]:
        assert_as_cpu(device, call[0], x, *call[1])
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        for call in (*calls(WINDOWS[1]), *adaptive_calls([1, 2]), *adaptive_calls([0, 2])):
            assert_as_cpu(device, call[0], torch.zeros(shape), *call[1])


def test_sample_alone_and_in_a_batch(device: str) -> None:
    """Which kernel runs, and in what blocks, depends on how many outputs there are."""
    x = normal("x", 40, 40, 5, 6)
    for view in (x, channels_last(x)):
        for call in (*list(calls(WINDOWS[3]))[::4], *adaptive_calls([1, 1])):
            name, options = call
            whole = run(device, name, view, *options)
            for size in (1, 2, 5):
                for start in (0, 7, len(view) - size):
                    part = run(device, name, view[start : start + size], *options)
                    assert_bits(part, whole[start : start + size], name)


def test_large_batch(device: str) -> None:
    x = channels_last(normal("x", 65537, 1, 2, 2))
    for call in (*adaptive_calls([1, 1]), *list(calls(WINDOWS[1]))[::4]):
        assert_as_cpu(device, call[0], x, *call[1])


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    controls.device(multiprocessors=multiprocessors)
    for dtype in FLOATING:
        x = channels_last(normal("x", 3, 40, 9, 8, dtype=dtype))
        for call in (*list(calls(WINDOWS[3]))[::4], *adaptive_calls([1, 1])):
            assert_as_cpu("emulated", call[0], x, *call[1])


pairs = st.lists(st.integers(1, 7), min_size=2, max_size=2)


@given(
    st.tuples(*(st.integers(1, n) for n in (3, 40, 12, 12))),
    *(pairs, pairs, st.tuples(st.booleans(), st.booleans()), pairs),
    *(st.booleans(), st.booleans(), st.sampled_from([None, None, 5])),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_window(
    shape: tuple[int, ...],
    kernel_size: list[int],
    stride: list[int],
    padded: tuple[bool, bool],
    dilation: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    dtype: torch.dtype,
    layout: int,
    seed: int,
) -> None:
    padding = [k // 2 * p for k, p in zip(kernel_size, padded, strict=True)]
    room = [n + 2 * p for n, p in zip(shape[2:], padding, strict=True)]
    assume(all(k <= r for k, r in zip(kernel_size, room, strict=True)))
    dilation = [
        d if d * (k - 1) < r else 1 for d, k, r in zip(dilation, kernel_size, room, strict=True)
    ]
    operators().seed(seed)
    views = list(layouts(with_specials(normal(shape, *shape, dtype=dtype), shape, share=0.01)))
    name, view = views[layout % len(views)]
    average = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)
    assert_as_cpu("emulated", "avg_pool2d", view, *average, message=f"{name}, seed {seed}")
    largest = (kernel_size, stride, padding, dilation, ceil_mode)
    assert_as_cpu("emulated", "max_pool2d", view, *largest, message=f"{name}, seed {seed}")
    for call in adaptive_calls(stride):
        assert_as_cpu("emulated", call[0], view, *call[1], message=f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    x = torch.empty(2**23 + 9, 4, 4, 16, dtype=torch.float16, device="cuda").normal_()
    x = x.permute(0, 3, 1, 2)
    for call in (*calls(WINDOWS[3]), *adaptive_calls([1, 1])):
        name, options = call
        result = getattr(torch.ops.bninv, name)(x, *options)
        for start in (0, len(x) // 2, len(x) - 9):
            part = x[start : start + 9].cpu()
            assert_bits(result[start : start + 9], run("cpu", name, part, *options))
