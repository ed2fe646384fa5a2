"""Variances, logarithms of sums of exponentials, and products over dimensions: rule R3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor, number
from bninv._rounding import widened
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import cast_tensors, converted
from bninv.operators.operator import Operator
from bninv.operators.sum import converts_once, mean, sum, the_dims
from bninv.operators.unary import exp, log, sqrt


def _moments(
    input: Tensor, dim: int | Sequence[int] | None, correction: float, keepdim: bool
) -> tuple[Tensor, Tensor]:
    """Variance and mean in the arithmetic type."""
    need_tensor("input", input)
    x, dims = widened(input), the_dims(dim)
    terms = math.prod(x.shape[d] for d in dims) if dims else x.numel()
    average = mean(x, dims, keepdim=True)
    d = x - average
    total = sum(d * d, dims, keepdim)
    divisor = total.new_full((), max(terms - number(correction, "correction"), 0))
    return total / divisor, average.reshape(total.shape)


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
    return _moments(input, dim, correction, keepdim)[0].to(input.dtype)


def std(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
) -> Tensor:
    """The square root of `var` in the arithmetic type, rounded once to a 16-bit one."""
    return sqrt(_moments(input, dim, correction, keepdim)[0]).to(input.dtype)


def var_mean(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    """`var` and `mean`, with their bits."""
    variance, average = _moments(input, dim, correction, keepdim)
    return variance.to(input.dtype), average.to(input.dtype)


def std_mean(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    """`std` and `mean`, with their bits."""
    variance, average = _moments(input, dim, correction, keepdim)
    return sqrt(variance).to(input.dtype), average.to(input.dtype)


def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """`m + log(sum(exp(x - m)))` with `m = max(x)`, and m = 0 where that is infinite: the sum by
    rule R3, everything in the arithmetic type, the result rounded once. Empty: -inf.

    Args:
        dim: one dimension or several; all of them if empty.
    """
    need_tensor("input", input)
    (input,) = cast_tensors("logsumexp", input)
    x, dims = widened(input), the_dims(dim)
    if x.numel() == 0:
        return log(sum(x, dims, keepdim)).to(input.dtype)
    # Which of two zeros it is shows nowhere.
    greatest = torch.amax(x, dims, keepdim=True)
    greatest = torch.where(greatest.isinf(), 0, greatest)
    total = sum(exp(x - greatest), dims, keepdim)
    return (greatest.reshape(total.shape) + log(total)).to(input.dtype)


def prod(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Product along `dim`, or of everything in row-major order: rule R3, products. Empty: 1.

    Args:
        dtype: what the input is converted to first, as in torch.prod; its own by default.
    """
    need_tensor("input", input)
    if dtype is None:
        (input,) = cast_tensors("prod", input)
    input = converted(input, dtype)
    x = widened(input)
    if dim is None or x.dim() == 0:
        rows = x.reshape(-1)
    else:
        rows = x.movedim(integers(dim, 1, "dim")[0], -1)
    terms = rows.shape[-1]
    half = 1 << (terms - 1).bit_length() >> 1 if terms > 1 else 0
    while half:
        # Those without a partner are multiplied by 1, which changes nothing.
        product = rows[..., : terms - half] * rows[..., half:]
        rows = torch.cat([product, rows[..., terms - half : half]], -1)
        terms, half = half, half >> 1
    result = rows[..., 0] if terms else rows.new_ones(rows.shape[:-1])
    if keepdim and dim is not None and x.dim() > 0:
        result = result.unsqueeze(dim)
    return result.to(input.dtype)


OPERATORS: list[Operator] = []


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _statistic(function: Adapter) -> Adapter:
    def statistic(
        input: Tensor,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        if isinstance(dim, bool):  # var(unbiased)
            dim, unbiased = None, dim
        if correction is None:
            correction = 1 if unbiased is None or unbiased else 0
        return function(input, dim, correction=correction, keepdim=keepdim)

    return statistic


def _aten_logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    need(input.is_floating_point())
    return logsumexp(input, dim, keepdim)


def _aten_prod(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    need((dtype or input.dtype).is_floating_point and converts_once(input, dtype))
    need(dim is None or isinstance(dim, int))
    # PyTorch has the message for a dimension that is none.
    need(dim is None or -max(input.dim(), 1) <= dim < max(input.dim(), 1))
    return prod(input, dim, keepdim, dtype=dtype)


ATEN: dict[str, Adapter] = {
    "var": _statistic(var),
    "std": _statistic(std),
    "var_mean": _statistic(var_mean),
    "std_mean": _statistic(std_mean),
    "logsumexp": _aten_logsumexp,
    "prod": _aten_prod,
}
PYTHON: dict[str, Adapter] = {}

__all__ = ["logsumexp", "prod", "std", "std_mean", "var", "var_mean"]
