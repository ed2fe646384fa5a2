"""softmax and log_softmax: R4."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bninv.functional as F
from tests.support import reference_normalization as reference
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    any_bits,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING, OTHERS

both = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


def softmax_case(name: str, shape: tuple[int, ...], dim: int) -> Case:
    return Case(
        f"{name} of {shape} along {dim}",
        shape,
        run=lambda x: getattr(F, name)(x, dim),
        stock=lambda x: getattr(torch, name)(x, dim),
        reference=lambda x: getattr(reference, name)(x, dim),
    )


SHAPES = [
    *(((3, k), 1) for k in (1, 2, 15, 31, 32, 33, 4095, 4096, 4097, 9000)),
    ((2, 2, 3, 37), 1),
    ((2, 2, 1, 5), 1),
    ((2, 33, 7, 9), -3),
    ((2, 4097, 3), 1),
    ((2, 3, 49, 49), -1),
    ((2, 3, 4, 5, 6), 2),
]


class TestSoftmax(ContractTests):
    CASES = [softmax_case("softmax", *case) for case in SHAPES]


class TestLogSoftmax(ContractTests):
    CASES = [softmax_case("log_softmax", *case) for case in SHAPES[::3]]


@both
@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_storage_types(name: str, dtype: torch.dtype) -> None:
    """The exponentials are not rounded to the storage type on the way."""
    x = (normal(name, 5, 33, 37) * 5).to(dtype)
    for dim in (1, 2):
        expected = reference.on_tensors(getattr(reference, name), x, dim)
        for layout, view in list(layouts(x))[:3]:
            assert_equals_at_each_level(
                lambda v=view, d=dim: getattr(F, name)(v, d), expected, layout
            )


@both
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_any_bits(name: str, dtype: torch.dtype) -> None:
    x = any_bits("x", (200, 5), dtype)
    for dim in (0, 1):
        expected = reference.on_tensors(getattr(reference, name), x, dim)
        assert_equals_at_each_level(lambda d=dim: getattr(F, name)(x, d), expected)


@both
def test_rows_with_special_values_are_stocks(name: str) -> None:
    x = normal("x", 8, 40)
    x[1, 3], x[2, 39], x[3, 0], x[4] = NAN, INF, -INF, -INF
    x[5, :], x[6, 1:] = INF, -INF
    for dim in (-1, 0):
        rows = x if dim == -1 else x.T
        expected = getattr(torch, name)(rows, dim)
        result = getattr(F, name)(rows, dim)
        assert torch.equal(result.isnan(), expected.isnan())
        torch.testing.assert_close(result, expected, equal_nan=True)


@both
def test_dtype_casts_first(name: str) -> None:
    x = normal("x", 3, 9).bfloat16()
    result = getattr(F, name)(x, 1, dtype=torch.float32)
    assert_bits(result, getattr(F, name)(x.float(), 1))


@both
def test_no_dimensions_and_no_terms(name: str) -> None:
    function = getattr(F, name)
    assert_bits(function(torch.tensor(3.0), 0), getattr(torch, name)(torch.tensor(3.0), 0))
    assert function(torch.ones(3, 0), 1).shape == (3, 0)
    assert function(torch.ones(0, 3), 1).shape == (0, 3)


@both
@pytest.mark.parametrize("shape", [(3, 4097), (2, 1000), (2, 33, 7)], ids=str)
def test_float64(name: str, shape: tuple[int, ...]) -> None:
    """Rows of more than one segment, and near stock's values."""
    x = normal(shape, *shape).double() * 7
    expected = reference.on_tensors(getattr(reference, name), x, 1)
    assert_equals_at_each_level(lambda: getattr(F, name)(x, 1), expected)
    torch.testing.assert_close(expected, getattr(torch, name)(x, 1), rtol=1e-14, atol=1e-14)


@both
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 50))
def test_any_shape(name: str, shape: list[int], dim: int, at: int) -> None:
    dim = dim % len(shape)
    x = with_specials(normal(shape, *shape), shape, share=0.0005)
    views = list(layouts(x))
    layout, view = views[at % len(views)]
    expected = reference.on_tensors(getattr(reference, name), x, dim)
    assert_equals_at_each_level(lambda: getattr(F, name)(view, dim), expected, layout)
