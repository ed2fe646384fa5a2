"""Sums and means over dimensions: rule R3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers
from bninv._rounding import narrows_once, rounds_once
from bninv.modules.base import FLOATING
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call_converted, ops
from bninv.operators.draw import Draw, any_input
from bninv.operators.operator import Operator


def the_dims(dim: int | Sequence[int] | None) -> list[int]:
    """The dimensions that an argument `dim` names; none: all."""
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
    return call_converted(ops.sum.default, input, dtype, the_dims(dim), keepdim)


def mean(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`sum` divided by the number of terms, rule R3. Empty: NaN."""
    return call_converted(ops.mean.default, input, dtype, the_dims(dim), keepdim)


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


ATEN: dict[str, Adapter] = {"mean": _reduction(mean), "sum": _reduction(sum)}
PYTHON: dict[str, Adapter] = {}

__all__ = ["mean", "sum"]
