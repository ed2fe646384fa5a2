"""cumsum, cumprod and logcumsumexp: R3, scans."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bninv
import bninv.functional as F
from tests.support import reference_scan as reference
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
from tests.support.reference_normalization import on_tensors

NAMES = ("cumsum", "cumprod", "logcumsumexp")
each = pytest.mark.parametrize("name", NAMES)


def scan_case(name: str, shape: tuple[int, ...], dim: int) -> Case:
    return Case(
        f"{name} of {shape} along {dim}",
        shape,
        run=lambda x: getattr(F, name)(x, dim),
        stock=lambda x: getattr(torch, name)(x, dim),
        reference=lambda x: getattr(reference, name)(x, dim),
    )


SHAPES = [((3, 1), 1), ((3, 300), 1), ((2, 33, 7, 9), -3), ((2, 3, 37, 67), 2), ((2, 3, 4, 31), 3)]


class TestCumsum(ContractTests):
    CASES = [scan_case("cumsum", *case) for case in SHAPES]


class TestLogcumsumexp(ContractTests):
    CASES = [scan_case("logcumsumexp", *case) for case in SHAPES[1:3]]


@each
@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_storage_types(name: str, dtype: torch.dtype) -> None:
    """What is carried on is not rounded to the storage type."""
    x = normal(name, 5, 33, 37).to(dtype)
    for dim in (1, 2):
        expected = on_tensors(getattr(reference, name), x, dim)
        for layout, view in list(layouts(x))[:3]:
            assert_equals_at_each_level(
                lambda v=view, d=dim: getattr(F, name)(v, d), expected, layout
            )


@each
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_any_bits(name: str, dtype: torch.dtype) -> None:
    x = any_bits("x", (40, 70), dtype)
    for dim in (0, 1):
        expected = on_tensors(getattr(reference, name), x, dim)
        assert_equals_at_each_level(lambda d=dim: getattr(F, name)(x, d), expected)


@each
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 50))
def test_any_shape(name: str, shape: list[int], dim: int, at: int) -> None:
    dim = dim % len(shape)
    x = with_specials(normal(shape, *shape), shape, share=0.0005)
    views = list(layouts(x))
    layout, view = views[at % len(views)]
    expected = on_tensors(getattr(reference, name), x, dim)
    assert_equals_at_each_level(lambda: getattr(F, name)(view, dim), expected, layout)


@each
def test_special_values_and_sizes_are_stocks(name: str) -> None:
    x = normal("x", 6, 40).abs() + 0.5
    x[1, 3], x[2, 39], x[3, 0], x[4] = NAN, INF, -INF, -INF
    x[5, 1:] = INF
    function = getattr(F, name)
    for rows, dim in ((x, 1), (x.T, 0), (x.double(), -1), (torch.tensor(3.0), 0)):
        expected = getattr(torch, name)(rows, dim)
        torch.testing.assert_close(function(rows, dim), expected, equal_nan=True)
    assert function(torch.ones(3, 0), 1).shape == (3, 0)


def test_zeros() -> None:
    """A sum starts from +0, a product from its first term."""
    zeros = torch.full((3,), -0.0)
    assert_bits(F.cumsum(zeros, 0), torch.zeros(3))
    assert_bits(F.cumprod(zeros, 0), torch.tensor([-0.0, 0.0, -0.0]))


def test_spellings() -> None:
    """Functions, methods, in place, with a dtype; of integers PyTorch's, which are exact."""
    x = normal("x", 3, 70).half()
    mask = x > 0
    with bninv.invariant(strict=True):
        assert_bits(torch.cumsum(x, 1), F.cumsum(x, 1))
        assert_bits(x.cumprod(dim=0), F.cumprod(x, 0))
        assert_bits(x.clone().cumsum_(1), F.cumsum(x, 1))
        assert_bits(x.clone().cumprod_(-1), F.cumprod(x, 1))
        assert_bits(x.logcumsumexp(0), F.logcumsumexp(x, 0))
        assert_bits(x.cumsum(1, dtype=torch.float32), F.cumsum(x.float(), 1))
        assert_bits(mask.cumsum(1, dtype=torch.float32), F.cumsum(mask.float(), 1))
        whole = mask.cumsum(1)
    assert torch.equal(whole, mask.long().cumsum(1))
