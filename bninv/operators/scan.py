"""Sums and products of all elements so far: the scans of rule R3."""

from __future__ import annotations

import torch
from torch import Tensor

from bninv.operators.adapters import Adapter, need
from bninv.operators.along import call_along, operators_along
from bninv.operators.sum import converts_once


def cumsum(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """`y[i] = y[i - 1] + x[i]` along `dim`, from +0: rule R3, scans. Sums are carried on in the
    arithmetic type, float32 for a 16-bit result.

    Args:
        input: any shape and strides.
        dim: the dimension along which it adds up.
        dtype: what the input is converted to first, as in torch.cumsum; its own by default.

    Returns:
        A contiguous tensor of the input's shape.

    Raises:
        RuntimeError: a dtype, device or `dim` does not fit.
    """
    return call_along("cumsum", input, dim, dtype)


def cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """`y[i] = y[i - 1] * x[i]` along `dim`, from the first element: rule R3, scans.

    Arguments and result as `cumsum`'s.
    """
    return call_along("cumprod", input, dim, dtype)


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """`log(exp(y[i - 1]) + exp(x[i]))` along `dim`, from the first element: rule R3, scans.

    Arguments and result as `cumsum`'s.
    """
    return call_along("logcumsumexp", input, dim, None)


OPERATORS = operators_along("cumsum", "cumprod", "logcumsumexp")


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _scan(function: Adapter) -> Adapter:
    def along(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
        need((dtype or input.dtype).is_floating_point and converts_once(input, dtype))
        return function(input, dim, dtype=dtype)

    return along


def _scan_(function: Adapter) -> Adapter:
    along = _scan(function)

    def in_place(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
        need(dtype is None or dtype == input.dtype)
        return input.copy_(along(input, dim))

    return in_place


ATEN: dict[str, Adapter] = {
    "cumsum": _scan(cumsum),
    "cumsum_": _scan_(cumsum),
    "cumprod": _scan(cumprod),
    "cumprod_": _scan_(cumprod),
    "logcumsumexp": logcumsumexp,
}
PYTHON: dict[str, Adapter] = {}

__all__ = ["cumprod", "cumsum", "logcumsumexp"]
