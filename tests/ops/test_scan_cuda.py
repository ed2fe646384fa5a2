"""cumsum, cumprod and logcumsumexp on CUDA have the bits of the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import any_bits, assert_bits, layouts, normal, with_specials
from tests.support.reference_dtypes import FLOATING

NAMES = ("cumsum", "cumprod", "logcumsumexp")


def assert_each_as_cpu(device: str, x: Tensor, dim: int, message: str = "") -> None:
    for name in NAMES:
        assert_as_cpu(device, name, x, dim, message=message)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_rows_and_columns(device: str, dtype: torch.dtype) -> None:
    """Fewer rows than a block owns and more of them; a tile that ends early and several tiles."""
    for shape in ((3, 1), (33, 31), (2, 65), (70, 32), (1, 33, 5), (3, 40, 170), (2, 1, 300)):
        x = normal(shape, *shape).to(dtype)
        assert_each_as_cpu(device, x, 1)
        assert_each_as_cpu(device, any_bits(shape, x.shape, dtype), 1)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_layouts(device: str, dtype: torch.dtype) -> None:
    x = with_specials(normal("x", 2, 3, 4, 5).to(dtype), "x", 0.01)
    for label, view in layouts(x):
        for dim in range(x.ndim):
            assert_each_as_cpu(device, view, dim, label)


def test_alone_and_in_a_batch(device: str) -> None:
    for shape in ((35, 40), (11, 40, 3)):
        x = with_specials(normal(shape, *shape), share=0.002)
        for name in NAMES:
            whole = run(device, name, x, 1)
            for start, size in ((0, 1), (5, 1), (10, 1), (2, 3)):
                part = run(device, name, x[start : start + size], 1)
                assert_bits(part, whole[start : start + size])


def test_large_batch(device: str) -> None:
    """Above the limit of a grid's y and z."""
    x = normal("x", 65537 * 2, 2)
    assert_bits(run(device, "cumsum", x, 1), run("cpu", "cumsum", x, 1))


def test_empty_and_scalar(device: str) -> None:
    for name in NAMES:
        assert run(device, name, torch.zeros(0, 4), 1).shape == (0, 4)
        assert run(device, name, torch.zeros(3, 0), 1).shape == (3, 0)
    assert_each_as_cpu(device, torch.tensor(2.0), 0)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(1, 100),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(
    shape: list[int], terms: int, dtype: torch.dtype, dim: int, layout: int, seed: int
) -> None:
    operators().seed(seed)
    dim %= len(shape)
    shape[dim] = terms
    x = with_specials(normal(shape, *shape).to(dtype), shape, 0.01)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    assert_each_as_cpu("emulated", view, dim, f"{name}, seed {seed}")
