"""What follows from sums, and products: R3."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import bninv
import bninv.functional as F
from tests.support import reference, reference_functions, reference_normalization
from tests.support.properties import (
    INF,
    NAN,
    any_bits,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    normal,
)
from tests.support.reference_dtypes import FLOATING

ORDERS = (0, 1, 2, INF, -INF, 2.5, -1)
DIMS = ((2, 3), 1, None)
dtypes = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def widened(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def near(result: Tensor, stock: Tensor) -> None:
    torch.testing.assert_close(result.double(), stock, rtol=1e-2, atol=1e-5, equal_nan=True)


@dtypes
def test_variances_are_their_expressions(dtype: torch.dtype) -> None:
    x = (normal("x", 3, 5, 7, 9) * 3 + 1).to(dtype)
    wide = widened(x)
    for dim in DIMS:
        for keepdim in (False, True):
            d = wide - F.mean(wide, dim, keepdim=True)
            terms = x.numel() // F.mean(wide, dim).numel()
            total = F.sum(d * d, dim, keepdim)
            for correction in (0, 1):
                variance = total / torch.full_like(total, terms - correction)
                options = {"correction": correction, "keepdim": keepdim}
                expected = {
                    "var": variance.to(dtype),
                    "std": F.sqrt(variance).to(dtype),
                    "mean": F.mean(x, dim, keepdim),
                }
                for name in ("var", "std"):
                    assert_bits(getattr(F, name)(x, dim, **options), expected[name])
                    pair = getattr(F, f"{name}_mean")(x, dim, **options)
                    assert_bits(pair[0], expected[name])
                    assert_bits(pair[1], expected["mean"])
                    near(pair[0], getattr(torch, name)(x.double(), dim, **options))
    assert F.var(torch.ones(1)).isnan().all()


@dtypes
@pytest.mark.parametrize("order", ORDERS)
def test_norms_are_their_expressions(order: float, dtype: torch.dtype) -> None:
    x = normal("x", 3, 5, 7, 9).to(dtype)
    x[0, 0], x[1, :, 2] = 0, -0.0
    wide = widened(x)
    terms = {0: (wide != 0).to(wide.dtype), 1: wide.abs(), 2: wide * wide}
    for dim in DIMS:
        for keepdim in (False, True):
            found = F.vector_norm(x, dim, keepdim, ord=order)
            if order not in (*terms, math.inf, -math.inf):
                total = F.sum(F.pow(wide.abs(), order), dim, keepdim)
                assert_bits(found, F.pow(total, 1 / order).to(dtype))
            elif order in terms:
                total = F.sum(terms[order], dim, keepdim)
                assert_bits(found, (F.sqrt(total) if order == 2 else total).to(dtype))
            near(found, torch.linalg.vector_norm(x.double(), order, dim, keepdim))
    x[1, 2, 3, 4] = NAN
    near(F.vector_norm(x, 1, ord=order), torch.linalg.vector_norm(x.double(), order, 1))


def halves(x: np.ndarray) -> np.ndarray:
    """The product of the last dimension: filled up with 1 to a power of two, then halved."""
    size = 1 << max(x.shape[-1] - 1, 0).bit_length()
    filled = np.ones((*x.shape[:-1], size), x.dtype)
    filled[..., : x.shape[-1]] = x
    with np.errstate(all="ignore"):
        while filled.shape[-1] > 1:
            half = filled.shape[-1] // 2
            filled = filled[..., :half] * filled[..., half:]
    return filled[..., 0]


def log_sum(x: np.ndarray) -> np.ndarray:
    greatest = x[..., 0]
    for i in range(x.shape[-1]):
        greatest = reference.maximum(greatest, x[..., i])
    greatest = np.where(np.isinf(greatest), x.dtype.type(0), greatest)
    with np.errstate(all="ignore"):
        e = reference_functions.exp(x - greatest[..., None])
        total = reference_normalization.sum_terms(e, reference_normalization.plain)
        return greatest + reference_functions.log(total)


REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"prod": halves, "logsumexp": log_sum}


def rows(dtype: torch.dtype) -> Iterator[Tensor]:
    for terms in (1, 2, 3, 16, 33, 100):
        yield normal(terms, 2, 3, terms).to(dtype)
        yield any_bits(terms, (5, 7, terms), dtype)


@dtypes
@pytest.mark.parametrize("name", REFERENCES)
def test_rows_are_the_reference(name: str, dtype: torch.dtype) -> None:
    for x in rows(dtype):
        expected = reference_normalization.on_tensors(REFERENCES[name], x)
        for layout, view in list(layouts(x))[:3]:
            run = getattr(F, name)
            assert_equals_at_each_level(lambda v=view, r=run: r(v, -1), expected, layout)
            # Along a dimension that is not the last.
            assert_bits(run(view.transpose(0, 2), 0), expected.T)


@dtypes
def test_products_and_logarithms_are_near_stocks(dtype: torch.dtype) -> None:
    x = normal("x", 3, 5, 7).abs().add(0.2).to(dtype)
    wide = x.double()
    near(F.prod(x, 1, True), wide.prod(1, True))
    near(F.prod(x[0, 0]), wide[0, 0].prod())
    for dim in ((1, 2), 2, [0]):
        near(F.logsumexp(x, dim, True), wide.logsumexp(dim, True))
    x = normal("x", 6, 4)
    x[1, 3], x[2, 2], x[3, 0], x[4] = NAN, INF, -INF, -INF
    for function in (torch.logsumexp, torch.prod):
        near(getattr(F, function.__name__)(x, 1), function(x.double(), 1))
        near(getattr(F, function.__name__)(x[:, :0], 1), function(x[:, :0].double(), 1))


def test_spellings_of_products() -> None:
    x = normal("x", 3, 5, 7)
    with bninv.invariant(strict=True):
        assert_bits(x.prod(1, keepdim=True), F.prod(x, 1, True))
        assert_bits(torch.prod(x.half(), -1, dtype=torch.float32), F.prod(x.half().float(), -1))
        assert_bits(x.prod(), F.prod(x))
        whole = (x > 0).prod(1)
    assert torch.equal(whole, (x > 0).all(1).long())


def test_distances_are_their_norms() -> None:
    a, b = normal("a", 3, 5, 7), normal("b", 3, 1, 7)
    for order in ORDERS:
        d = F.pairwise_distance(a, b, order)
        assert_bits(d, F.vector_norm((a - b) + 1e-6, -1, ord=order))
    for dim in (1, -1):
        u, v = (x / F.vector_norm(x, dim, True) for x in (a, b.expand_as(a)))
        assert_bits(F.cosine_similarity(a, b, dim), F.sum(u * v, dim))
        near(F.cosine_similarity(a, b, dim), torch.cosine_similarity(a.double(), b.double(), dim))
    zero = torch.zeros(2, 3)
    assert_bits(F.cosine_similarity(zero, zero), torch.zeros(2))
    halves = F.cosine_similarity(a.half(), b.half(), -1)
    assert_bits(halves, F.cosine_similarity(a.half().float(), b.half().float(), -1).half())


@pytest.mark.parametrize("name", ["std", "logsumexp", "prod", "vector_norm", "normalize"])
def test_a_sample_alone_and_in_a_batch(name: str) -> None:
    x = normal("x", 7, 5, 33)
    x[2, :, 3] = NAN  # a neighbour
    whole = getattr(F, name)(x, dim=1)
    for start, size in ((0, 1), (3, 1), (4, 3)):
        assert_bits(getattr(F, name)(x[start : start + size], dim=1), whole[start : start + size])


def test_an_order_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="`ord` is NaN; it may be"):
        F.vector_norm(torch.ones(3), ord=math.nan)
