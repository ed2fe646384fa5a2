"""Sums and means over dimensions: rule R3."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bninv._arguments import integers
from bninv.functional._call import call, ops


def _dims(dim: int | Sequence[int] | None) -> list[int]:
    if dim is None:
        return []
    return integers(dim, len(dim) if isinstance(dim, Sequence) else 1, "dim")


def sum(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim` (all dimensions if None or empty), rule R3: 32 lanes, segments of 4096 terms,
    terms in row-major order of their logical indices whatever the strides. Empty: +0.
    """
    return call(ops.sum.default, input, _dims(dim), keepdim)


def mean(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """`sum` divided by the number of terms, rule R3. Empty: NaN."""
    return call(ops.mean.default, input, _dims(dim), keepdim)
