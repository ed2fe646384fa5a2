"""Sums over dimensions, and what follows from them: rule R3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor, number, promoted
from bninv._rounding import narrows_once, rounds_once
from bninv.modules.base import FLOATING
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call_converted, cast_tensors, converted, ops
from bninv.operators.draw import Draw, any_input
from bninv.operators.operator import Operator
from bninv.operators.unary import sqrt


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


# ---- The operators -------------------------------------------------------------------------------


def _fake(input: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    reduced = {d % max(input.dim(), 1) for d in dim} or set(range(input.dim()))
    shape = [
        1 if d in reduced else size
        for d, size in enumerate(input.shape)
        if keepdim or d not in reduced
    ]
    return input.new_empty(shape)


def _draw(draw: Draw) -> list[Any]:
    x = any_input(draw)
    dims = draw.random.sample(range(x.ndim), draw.random.randint(1, x.ndim))
    return [x, sorted(dims), draw.random.random() < 0.5]


OPERATORS = [
    Operator(name, "(Tensor input, int[] dim, bool keepdim) -> Tensor", _fake, _draw)
    for name in ("sum", "mean")
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def converts_once(input: Tensor, dtype: torch.dtype | None) -> bool:
    """Whether the `dtype` that a call names is None, or one to which the input rounds only once."""
    if dtype is None:
        return True
    return dtype in FLOATING and rounds_once(input.dtype, dtype, narrows_once([input]))


def _reduction(function: Adapter) -> Adapter:
    def reduce(
        input: Tensor,
        dim: Any = None,
        keepdim: bool = False,
        *,
        dtype: torch.dtype | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Tensor:
        need(input.is_floating_point() and converts_once(input, dtype))
        # NumPy's names, which PyTorch takes as well.
        dims = dim if axis is None else axis
        return function(input, dims, keepdim or keepdims, dtype=dtype)

    return reduce


def _aten_var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return var(input, dim, correction=correction, keepdim=keepdim)


def _aten_vector_norm(
    input: Tensor,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(ord == 2 and input.is_floating_point())
    # PyTorch refuses a dtype that does not hold the input's values.
    need(dtype is None or (dtype in FLOATING and promoted(input.dtype, dtype) == dtype))
    return vector_norm(input, dim, keepdim, dtype=dtype)


def _aten_norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *others: Any,  # torch.norm and Tensor.norm have two orders of `out` and `dtype`
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(not others and (p is None or p == "fro" or p == 2))
    return _aten_vector_norm(input, 2, dim, keepdim, dtype=dtype)


def _normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    need(p == 2 and eps > 0 and input.is_floating_point())
    return input / vector_norm(input, dim, True).clamp_min(eps).expand_as(input)


ATEN: dict[str, Adapter] = {
    "mean": _reduction(mean),
    "sum": _reduction(sum),
    "var": _aten_var,
    "norm": _aten_norm,
    "linalg_vector_norm": _aten_vector_norm,
}
PYTHON: dict[str, Adapter] = {"normalize": _normalize}

__all__ = ["mean", "sum", "var", "vector_norm"]
