"""Bits of results: flattening a model's output, comparing it bit by bit, digesting it.

Two elements are equal when their bits are, except that every NaN equals every other NaN: the
contract fixes *that* an element is NaN, not its payload or sign. +0 and -0 are different bits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bninv.testing import different_bits

_INTEGER_OF_WIDTH = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal in shape, dtype and every bit (any NaN equals any NaN)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return not bool(different_bits(a, b).any())


@dataclass(frozen=True)
class Difference:
    """How one array differs from another: a mask, and the largest distance.

    `max_abs` is infinite, and `max_ulp` None, where a number stands against a NaN. `max_ulp`
    counts representable values along IEEE 754's total order, in which -0 is one step below +0.
    """

    moved: np.ndarray
    max_abs: float
    max_ulp: int | None


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor's elements as unsigned integers in IEEE 754's total order, NaNs made one."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor).contiguous()
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    if not tensor.is_floating_point():
        return tensor.numpy()
    width = 8 * tensor.element_size()
    nan = torch.full_like(tensor, math.nan)
    bits = torch.where(tensor.isnan(), nan, tensor).view(_INTEGER_OF_WIDTH[width // 8]).numpy()
    # Negative floats count downwards from -0: flipping all but the sign bit puts them in order.
    return bits ^ ((bits >> (width - 1)) & np.array((1 << (width - 1)) - 1, bits.dtype))


def difference(a: Tensor, b: Tensor) -> Difference:
    """Compare two tensors of one shape and dtype bit by bit."""
    bits_a, bits_b = to_array(a), to_array(b)
    moved = bits_a != bits_b
    if not moved.any():
        return Difference(moved, 0.0, 0)
    low, high = np.minimum(bits_a, bits_b)[moved], np.maximum(bits_a, bits_b)[moved]
    unsigned = np.dtype(f"u{low.dtype.itemsize}")
    # Modulo 2^width, so that the distance between the two ends of the range fits as well.
    steps = high.view(unsigned) - low.view(unsigned)
    values_a, values_b = (_as_float64(t)[moved] for t in (a, b))
    nan = np.isnan(values_a) | np.isnan(values_b)
    if nan.any():
        return Difference(moved, math.inf, None)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(values_a - values_b)
    return Difference(moved, float(distance.max()), int(steps.max()))


def _as_float64(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.to(torch.float64).contiguous().numpy()


def digest(tensors: list[Tensor]) -> str:
    """SHA-256 over the tensors' bits: the same on two machines exactly if the bits are."""
    total = hashlib.sha256()
    for tensor in tensors:
        array = to_array(tensor)
        total.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return total.hexdigest()
