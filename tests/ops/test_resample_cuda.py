"""Resampling on CUDA has the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import assert_bits, expansions, layouts, normal, with_specials
from tests.support.reference_dtypes import FLOATING

# Linear and cubic, corners aligned or not, with antialias or without.
MODES = [
    (mode, align_corners, antialias)
    for mode in ("linear", "cubic")
    for align_corners in (False, True)
    for antialias in (False, True)
]
# Shape and output size: larger, smaller, of one pixel, to one pixel, one dimension as it is.
SIZES = [
    ((2, 3, 5, 9), [10, 18]),
    ((1, 35, 11, 8), [4, 9]),
    ((2, 16, 1, 1), [3, 2]),
    ((3, 5, 6, 7), [1, 1]),
    ((2, 17, 6, 7), [9, 7]),
    ((2, 8, 6, 7), [6, 3]),
]
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def both_formats(x: torch.Tensor) -> Iterator[torch.Tensor]:
    yield x
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    yield x.contiguous(memory_format=last)


@floating
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_images(device: str, mode: tuple, dtype: torch.dtype) -> None:
    for shape, size in SIZES:
        x = with_specials(normal("x", *shape, dtype=dtype), share=0.01)
        for view in both_formats(x):
            assert_as_cpu(device, "resample", view, size, [], *mode)


@floating
def test_volumes(device: str, dtype: torch.dtype) -> None:
    for shape, size in (
        ((2, 3, 3, 4, 5), [5, 7, 9]),
        ((1, 17, 4, 3, 5), [4, 6, 2]),
        ((2, 5, 3, 4, 2), [6, 4, 2]),
    ):
        x = with_specials(normal("x", *shape, dtype=dtype), share=0.01)
        for view in both_formats(x):
            for align_corners in (False, True):
                assert_as_cpu(device, "resample", view, size, [], "linear", align_corners, False)


def test_scale_factors(device: str) -> None:
    x = normal("x", 2, 5, 9, 8)
    for mode in MODES:
        for scales in ([1.37, 0.61], [0.0, 2.3], [2.0**-31, 2.0**31]):
            assert_as_cpu(device, "resample", x, [12, 5], scales, *mode)


def test_layouts(device: str) -> None:
    for shape, size in (((2, 5, 4, 7), [6, 5]), ((2, 3, 2, 4, 3), [3, 3, 5])):
        x = normal("x", *shape)
        for name, view in (*layouts(x), *expansions(x)):
            assert_as_cpu(device, "resample", view, size, [], "linear", False, False, message=name)


def test_nothing(device: str) -> None:
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        assert_as_cpu(device, "resample", torch.zeros(shape), [3, 5], [], "linear", False, False)


def test_sample_alone_and_in_a_batch(device: str) -> None:
    x = normal("x", 7, 9, 5, 6)
    for view in both_formats(x):
        for mode in MODES[::3]:
            whole = run(device, "resample", view, [7, 11], [], *mode)
            for start in range(len(x)):
                part = run(device, "resample", view[start : start + 1], [7, 11], [], *mode)
                assert_bits(part, whole[start : start + 1])


# ---- The emulation's own dimensions --------------------------------------------------------------


@given(
    st.tuples(*(st.integers(1, n) for n in (2, 20, 12, 12))),
    st.lists(st.integers(1, 14), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.0, 0.4, 1.2, 2.6]), min_size=2, max_size=2),
    st.sampled_from(MODES),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_problem(
    shape: tuple[int, ...],
    size: list[int],
    scales: list[float],
    mode: Any,
    dtype: torch.dtype,
    layout: int,
    seed: int,
) -> None:
    operators().seed(seed)
    views = list(layouts(with_specials(normal(shape, *shape, dtype=dtype), shape, share=0.01)))
    name, view = views[layout % len(views)]
    assert_as_cpu("emulated", "resample", view, size, scales, *mode, message=f"{name}, seed {seed}")
