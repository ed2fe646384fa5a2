"""Sampling a grid on CUDA has the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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

OPTIONS = list(
    itertools.product(
        ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)
    )
)
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


@floating
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_images(device: str, options: tuple, dtype: torch.dtype) -> None:
    for shape, points in (((2, 3, 5, 9), (4, 11)), ((1, 5, 1, 2), (1, 300))):
        x = with_specials(normal("x", *shape, dtype=dtype), share=0.01)
        grid = normal("grid", shape[0], *points, 2, dtype=dtype)
        assert_as_cpu(device, "grid_sample", x, grid, *options)
        # Any pattern of bits is a coordinate.
        assert_as_cpu(device, "grid_sample", x, any_bits(options, grid.shape, dtype), *options)


@floating
def test_volumes(device: str, dtype: torch.dtype) -> None:
    x = with_specials(normal("x", 2, 3, 3, 4, 5, dtype=dtype), share=0.01)
    grid = normal("grid", 2, 3, 2, 7, 3, dtype=dtype)
    for options in OPTIONS:
        if options[0] != "bicubic":
            assert_as_cpu(device, "grid_sample", x, grid, *options)


def test_layouts(device: str) -> None:
    x, grid = normal("x", 2, 3, 4, 5), normal("grid", 2, 3, 7, 2)
    for name, view in (*layouts(x), *expansions(x)):
        assert_as_cpu(device, "grid_sample", view, grid, *OPTIONS[0], message=name)
    for name, view in (*layouts(grid), *expansions(grid)):
        assert_as_cpu(device, "grid_sample", x, view, *OPTIONS[-1], message=name)


def test_nothing(device: str) -> None:
    for shape, points in (((0, 3, 4, 4), (2, 2)), ((2, 0, 4, 4), (2, 2)), ((2, 3, 4, 4), (0, 2))):
        grid = torch.zeros(shape[0], *points, 2)
        assert_as_cpu(device, "grid_sample", torch.zeros(shape), grid, *OPTIONS[0])


def test_sample_alone_and_in_a_batch(device: str) -> None:
    x, grid = normal("x", 5, 4, 5, 6), normal("grid", 5, 7, 11, 2)
    for options in OPTIONS[::4]:
        whole = run(device, "grid_sample", x, grid, *options)
        for i in range(len(x)):
            part = run(device, "grid_sample", x[i : i + 1], grid[i : i + 1], *options)
            assert_bits(part, whole[i : i + 1])


# ---- The emulation's own dimensions --------------------------------------------------------------


@given(
    st.tuples(*(st.integers(1, n) for n in (2, 5, 9, 9))),
    st.tuples(st.integers(1, 4), st.integers(1, 20)),
    st.sampled_from(OPTIONS),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_problem(
    shape: tuple[int, ...],
    points: tuple[int, int],
    options: Any,
    dtype: torch.dtype,
    layout: int,
    seed: int,
) -> None:
    operators().seed(seed)
    views = list(layouts(with_specials(normal(shape, *shape, dtype=dtype), shape, share=0.01)))
    name, view = views[layout % len(views)]
    grid = with_specials(normal(points, shape[0], *points, 2, dtype=dtype), points, share=0.01)
    assert_as_cpu("emulated", "grid_sample", view, grid, *options, message=f"{name}, seed {seed}")
