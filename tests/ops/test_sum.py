"""sum and mean over dimensions of a sample: R3."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bninv.functional as F
from tests.support import reference, reference_dtypes
from tests.support.properties import (
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    normal,
    with_specials,
)


def reduction_case(
    name: str, shape, dim, keepdim: bool = False, dtype: torch.dtype = torch.float32
) -> Case:
    return Case(
        f"{name} of {shape} over {dim}{', keepdim' if keepdim else ''}",
        shape,
        run=lambda x: getattr(F, name)(x, dim, keepdim),
        stock=lambda x: getattr(torch, name)(x, dim, keepdim),
        reference=lambda x: getattr(reference, name)(x, dim, keepdim),
        dtype=dtype,
    )


REDUCTIONS = [
    ((3, 1), 1, False),
    ((5, 33), -1, True),
    ((3, 19, 7, 7), (2, 3), False),
    ((3, 19, 7, 7), (-1, -2), True),
    ((2, 19, 1, 1), (2, 3), True),
    ((2, 19, 5, 3), 1, False),
    ((2, 130, 3, 5), (1,), True),
    ((2, 7, 5, 9), (1, 3), False),
    ((2, 7, 5, 9), (3, 2, 1), False),
    ((2, 3, 70, 70), (2, 3), False),
    ((2, 9001), 1, False),
    ((2, 4096), -1, False),
    ((2, 4097, 3), 1, False),
    ((3, 97, 35), 1, False),
    ((3, 49, 64), 2, True),
    ((2, 3, 4, 5, 6), (2, 3, 4), False),
    ((2, 3, 4, 5, 6), (1, 4), True),
    ((17, 67, 23, 19), (2, 3), False),
]


class TestReduction(ContractTests):
    CASES = [reduction_case(name, *case) for name in ("sum", "mean") for case in REDUCTIONS]


class TestReductionDtypes(ContractTests):
    CASES = [
        reduction_case(name, *case, dtype=dtype)
        for dtype in reference_dtypes.OTHERS
        for name in ("sum", "mean")
        for case in (
            ((3, 19, 7, 7), (2, 3), False),
            ((2, 130, 3, 5), 1, True),
            ((2, 4500), -1, False),
            ((2, 7, 5, 9), (1, 3), False),
        )
    ]


def test_terms_are_in_logical_order_whatever_the_strides() -> None:
    """A worked sum: with 2^24 first in its lane each 1 is lost, without it they are not."""
    for position, expected in ((0, 2**24), (32, 2**24), (64, 2**24 + 2)):
        x = torch.zeros(1, 1, 4, 24)
        x.view(-1)[[0, 32, 64]] = 1
        x.view(-1)[position] = 2**24
        for name, view in layouts(x):
            for level, result in at_each_level(lambda v=view: F.sum(v, (2, 3))):
                assert result.item() == expected, f"{name}, {level}"


@pytest.mark.parametrize("channels", [3, 8, 70, 130])
def test_neighbours_that_the_output_has_apart(channels: int) -> None:
    """Branches of channels in channels_last, added up: neither their terms nor their sums lie side
    by side, but the terms of neighbouring channels do."""
    for branches in (2, 20):
        x = normal("x", 2, branches * channels, 3, 5).contiguous(memory_format=torch.channels_last)
        view = x.view(2, branches, channels, 3, 5)
        for dim in ((1,), (1, 3), (1, 4)):
            expected = F.sum(view.contiguous(), dim)
            assert_equals_at_each_level(
                lambda d=dim: F.sum(view, d), expected, f"{branches}, {dim}"
            )


def test_sum_of_negative_zeros_is_positive() -> None:
    x = torch.full((2, 3, 40), -0.0)
    for reduce in (F.sum, F.mean):
        for dim in (1, 2, (1, 2)):
            for _, result in at_each_level(lambda r=reduce, d=dim: r(x, d)):
                assert (result == 0).all() and not result.signbit().any()


def test_no_terms() -> None:
    x = torch.ones(3, 4, 0)
    assert_bits(F.sum(x, 2), torch.zeros(3, 4))
    assert F.mean(x, 2).isnan().all() and F.mean(x, 2).shape == (3, 4)


def test_reduction_over_the_batch_follows_the_same_rule() -> None:
    """It cannot be batch-invariant, but it is defined."""
    x = normal("x", 300, 5)
    expected = torch.from_numpy(reference.mean(x.numpy(), 0))
    assert_equals_at_each_level(lambda: F.mean(x, 0), expected)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
def test_dtype_is_that_of_the_terms(name: str, dtype: torch.dtype) -> None:
    """As in PyTorch: converted first, so that a sum of half numbers may leave their range."""
    x = normal("x", 3, 70).half() * 4096
    expected = getattr(reference_dtypes, name)(x.to(dtype), 1)
    assert_equals_at_each_level(lambda: getattr(F, name)(x, 1, dtype=dtype), expected)
    stock = getattr(torch, name)(x, 1, dtype=dtype)
    torch.testing.assert_close(expected, stock, rtol=2e-2, atol=1e3)
    integers = getattr(F, name)(torch.arange(12).view(3, 4), 1, dtype=dtype)
    assert_bits(integers, getattr(torch, name)(torch.arange(12).view(3, 4), 1, dtype=dtype))


def test_dtype_without_kernels() -> None:
    with pytest.raises(TypeError, match="`dtype` is 'float32'"):
        F.sum(normal("x", 3), dtype="float32")
    with pytest.raises(RuntimeError, match="`input` has dtype torch.int64"):
        F.sum(normal("x", 3), dtype=torch.int64)


def test_large_batch() -> None:
    x = normal("x", 65537, 2, 5)
    for dim in (1, 2, (1, 2)):
        assert_bits(F.mean(x, dim), torch.from_numpy(reference.mean(x.numpy(), dim)))


@pytest.mark.parametrize("name", ["sum", "mean"])
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.sets(st.integers(1, 3), min_size=1),
    st.booleans(),
    st.integers(0, 50),
    st.sampled_from(reference_dtypes.FLOATING),
)
def test_any_shape(
    name: str, shape: list[int], dims: set, keepdim: bool, layout: int, dtype: torch.dtype
) -> None:
    dim = sorted({min(d, len(shape) - 1) for d in dims})
    x = with_specials(normal(shape, *shape, dtype=dtype), shape, share=0.001)
    views = list(layouts(x))
    layout_name, view = views[layout % len(views)]
    expected = getattr(reference_dtypes, name)(x, dim, keepdim)
    assert_equals_at_each_level(lambda: getattr(F, name)(view, dim, keepdim), expected, layout_name)
