"""Sums over dimensions, and what follows from them: rule R3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor, number, promoted
from bninv.functional._call import call_converted, cast_tensors, converted, ops
from bninv.functional.elementwise import sqrt


def _dims(dim: int | Sequence[int] | None) -> list[int]:
    if dim is None:
        return []
    return integers(dim, len(dim) if isinstance(dim, Sequence) else 1, "dim")


def sum(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sum over `dim` (all dimensions if None or empty), rule R3: 32 lanes, segments of 4096 terms,
    terms in row-major order of their logical indices whatever the strides. Empty: +0.

    Args:
        dtype: what the input is converted to first, as in torch.sum; its own by default.
    """
    return call_converted(ops.sum.default, input, dtype, _dims(dim), keepdim)


def mean(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`sum` divided by the number of terms, rule R3. Empty: NaN."""
    return call_converted(ops.mean.default, input, dtype, _dims(dim), keepdim)


def _widened(input: Tensor) -> Tensor:
    return input.float() if input.dtype in (torch.float16, torch.bfloat16) else input


def var(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
) -> Tensor:
    """`sum(d * d) / (K - correction)` with `d = x - mean(x)`: both sums by rule R3; square,
    difference and quotient one rounding each in the arithmetic type; the result rounds once more to
    a 16-bit one. Where K is at most `correction` the divisor is 0, as in torch.var.
    """
    need_tensor("input", input)
    x, dims = _widened(input), _dims(dim)
    terms = math.prod(x.shape[d] for d in dims) if dims else x.numel()
    d = x - mean(x, dims, keepdim=True)
    total = sum(d * d, dims, keepdim)
    divisor = total.new_full((), max(terms - number(correction, "correction"), 0))
    return (total / divisor).to(input.dtype)


def vector_norm(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The Euclidean norm, `sqrt(sum(x * x))`: the sum by rule R3, products and root one rounding
    each in the arithmetic type; the result rounds once more to a 16-bit one.

    Args:
        dim: one dimension or several; all of them if None or empty.
        dtype: what the input is widened to first, as in torch.linalg.vector_norm; its own by
            default.

    Raises:
        ValueError: `dtype` does not hold every value of the input's.
    """
    need_tensor("input", input)
    if dtype is None:
        (input,) = cast_tensors("linalg_vector_norm", input)
    source, input = input.dtype, converted(input, dtype)
    if promoted(source, input.dtype) != input.dtype:
        raise ValueError(
            f"`dtype` is {dtype} for an `input` of {source}; it may be one that holds its values"
        )
    x = _widened(input)
    return sqrt(sum(x * x, _dims(dim), keepdim)).to(input.dtype)
