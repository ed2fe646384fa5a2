"""Sums and means over dimensions: rule R3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor
from bninv.functional._call import call, ops


def _dims(dim: int | Sequence[int] | None) -> list[int]:
    if dim is None:
        return []
    return integers(dim, len(dim) if isinstance(dim, Sequence) else 1, "dim")


def _converted(input: Tensor, dtype: torch.dtype | None) -> Tensor:
    need_tensor("input", input)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"`dtype` is {dtype!r}; it may be a torch.dtype or None")
    return input if dtype is None else input.to(dtype)


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
    return call(ops.sum.default, _converted(input, dtype), _dims(dim), keepdim)


def mean(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`sum` divided by the number of terms, rule R3. Empty: NaN."""
    return call(ops.mean.default, _converted(input, dtype), _dims(dim), keepdim)
