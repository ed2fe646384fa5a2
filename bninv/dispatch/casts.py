"""Conversions between dtypes that a processor or a backend is free to do in several ways.

What becomes of a float that an integer type does not hold is open in C++: x86's vectors, its
scalars, Arm and CUDA differ. Here it is the nearest integer that there is, and NaN is 0. A
conversion in two roundings is one of PyTorch's in each step, by way of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bninv._rounding import rounds_once, widened
from bninv.dispatch.conditions import target_of
from bninv.operators.adapters import Adapter, need

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_HALVES = (torch.float16, torch.bfloat16)


def to_integers(input: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded toward zero; beyond the greatest and the least, those; NaN: 0."""
    limits = torch.iinfo(dtype)
    x = widened(input)
    # Powers of two, or 0, that every floating-point type holds.
    least, beyond = float(limits.min), float(limits.max + 1)
    whole = torch.where((x > least) & (x < beyond), x, 0).to(dtype)
    whole = whole.masked_fill(x >= beyond, limits.max)
    return whole.masked_fill(x <= least, limits.min) if limits.min else whole


def prepared(input: Tensor, dtype: torch.dtype) -> Tensor:
    """What PyTorch converts to `dtype` in one way, with the value that the input has there."""
    if rounds_once(input.dtype, dtype, True):
        return input
    if input.is_floating_point() and dtype in _INTEGERS:
        return to_integers(input, dtype)
    # float64 and integers.
    need(dtype in _HALVES and not input.is_complex())
    return input.to(torch.float32)


def _conversion(function: Callable[..., Tensor]) -> Adapter:
    """`function` under a signature of those that name a dtype, or a tensor of it, somewhere."""

    def convert(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        need(isinstance(input, Tensor))
        target = target_of((input, *args), kwargs)
        return function(prepared(input, target), *args, **kwargs)

    return convert


def method(dtype: torch.dtype) -> Adapter:
    """Tensor.int, Tensor.long and the others."""

    def convert(input: Tensor, memory_format: Any = torch.preserve_format) -> Tensor:
        return prepared(input, dtype).to(dtype, memory_format=memory_format)

    return convert


def copy_(input: Tensor, src: Any = None, non_blocking: bool = False, **others: Any) -> Tensor:
    need(isinstance(src, Tensor) and not others)  # TorchScript has overloads of its own
    return input.copy_(prepared(src, input.dtype), non_blocking)


to = _conversion(torch.Tensor.to)

# ATen's overloads of `to` have their options in places of their own.
REPAIRS: dict[str, Adapter] = {
    "to": _conversion(torch.ops.aten.to),
    "_to_copy": _conversion(torch.ops.aten._to_copy),
    "type_as": _conversion(torch.Tensor.type_as),
    "copy_": copy_,
}
