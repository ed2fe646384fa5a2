"""R9's arithmetic (docs/numerics.md): what a tensor core's multiply-add gives, NumPy only.

Nothing here knows csrc/tensor_block.h. That works on bit patterns and integers; this works on the
values, in float64, where every step happens to be exact: products have at most 22 bits, cut terms
are integers under 2^28, and their sum stays under 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bits = NDArray[np.uint32]

NOTHING = -(10**6)  # the exponent of a zero: it never is the greatest


@dataclass(frozen=True)
class Class:
    """GPUs of one arithmetic: bits kept below the greatest exponent, its floor, blocks a group."""

    fraction_bits: int
    floor: int
    parts: int


A = Class(fraction_bits=24, floor=-132, parts=2)  # 8.0, 8.6, 8.9; 7.5 for float16
H = Class(fraction_bits=25, floor=-133, parts=1)  # 9.0, 10.0, 12.0
CLASSES = {"A": A, "H": H}

SMALLEST = {"f16": -14, "bf16": -126, "tf32": -126}  # normal exponents
GROUP = {"f16": 16, "bf16": 16, "tf32": 8}  # terms


def values(dtype: str, bits: NDArray[np.integer]) -> F64:
    """The values of operands given by their patterns: f16 and bf16 in 16 bits, tf32 in 32.

    Of a tf32 pattern the low 13 bits do not count.
    """
    patterns = np.asarray(bits).astype(np.uint32)
    with np.errstate(invalid="ignore"):  # signalling NaN
        if dtype == "f16":
            return patterns.astype(np.uint16).view(np.float16).astype(np.float64)
        if dtype == "bf16":
            return (patterns << np.uint32(16)).view(np.float32).astype(np.float64)
        return (patterns & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def exponents(x: F64, smallest: int) -> NDArray[np.int64]:
    """floor(log2 |x|), subnormals at the smallest normal exponent, NOTHING for zeros."""
    lead = np.frexp(x)[1].astype(np.int64) - 1
    return np.where(x == 0, NOTHING, np.maximum(lead, smallest))


def block(a: F64, b: F64, c: F64, smallest: int, fraction_bits: int, floor: int) -> F32:
    """c + sum of a * b over the last axis, in one block."""
    with np.errstate(all="ignore"):
        products = a * b
        terms = np.concatenate([products, c[..., None]], axis=-1)
        # Only infinities and NaN operands can make this sum special: |products| < 2^257.
        special = terms.sum(axis=-1)
        infinite = ~np.isfinite(special)
        finite = np.where(np.isfinite(terms), terms, 0.0)

        each = exponents(a, smallest) + exponents(b, smallest)
        each = np.concatenate([each, exponents(c, -126)[..., None]], axis=-1)
        each = np.where(np.isfinite(terms), each, NOTHING)
        top = np.maximum(each.max(axis=-1), floor)
        unit = top - fraction_bits
        total = np.trunc(np.ldexp(finite, -unit[..., None])).sum(axis=-1)

        # Binary32 toward zero: the last place is at 2^(lead - 23), or 2^-149 for a subnormal.
        lead = np.frexp(total)[1].astype(np.int64) - 1 + unit
        ulp = np.maximum(lead - 23, -149)
        magnitude = np.ldexp(np.trunc(np.ldexp(np.abs(total), unit - ulp)), ulp)
        magnitude = np.where(magnitude >= 2.0**128, np.inf, magnitude)
        # A zero is +0, whatever the signs of the terms.
        result = np.where((total < 0) & (magnitude > 0), -magnitude, magnitude)
        return np.where(infinite, special, result).astype(np.float32)


def multiply_add(
    dtype: str, a: NDArray[np.integer], b: NDArray[np.integer], c: F32, rule: Class
) -> F32:
    """One instruction: a, b [..., terms] are patterns of operands, c [...] the accumulators."""
    size = GROUP[dtype] // rule.parts
    left, right = np.broadcast_arrays(values(dtype, a), values(dtype, b))
    for start in range(0, left.shape[-1], size):
        part = slice(start, start + size)
        with np.errstate(invalid="ignore"):  # signalling NaN
            accumulator = np.asarray(c).astype(np.float64)
        c = block(
            left[..., part],
            right[..., part],
            accumulator,
            SMALLEST[dtype],
            rule.fraction_bits,
            rule.floor,
        )
    return c


def same(x: F32, y: F32) -> NDArray[np.bool_]:
    """Equal bits; of NaN only that it is one is part of the contract."""
    bits = np.asarray(x, np.float32).view(np.uint32) == np.asarray(y, np.float32).view(np.uint32)
    return bits | (np.isnan(x) & np.isnan(y))
