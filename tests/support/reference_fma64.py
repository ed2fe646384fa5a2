"""binary64 fma for the NumPy reference: exact rationals, and a vectorised form of the same."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# Factors and sums between these magnitudes keep every step of `_fma_in_range` free of overflow and
# of underflow.
_LEAST, _GREATEST = 2.0**-450, 2.0**450


def exact(a: float, b: float, c: float) -> float:
    """`a * b + c`, rounded once, by exact rationals."""
    if np.isfinite([a, b]).all() and not np.isfinite(c):
        return c  # the product is finite, however large
    if not np.isfinite([a, b, c]).all():
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    value = Fraction(a) * Fraction(b) + Fraction(c)
    if value == 0:  # the sign of an exact zero is that of IEEE's sum
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    try:
        return value.numerator / value.denominator  # correctly rounded
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def fma64(a: object, b: object, c: object) -> F64:
    """`a * b + c` of arrays, rounded once."""
    factor, other, addend = np.broadcast_arrays(
        *(np.asarray(value, np.float64) for value in (a, b, c))
    )
    result = np.empty(addend.shape)
    with np.errstate(all="ignore"):
        usual = np.ones(addend.shape, bool)
        for value in (factor, other, addend):
            magnitude = np.abs(value)
            usual &= (magnitude > _LEAST) & (magnitude < _GREATEST)
        # A chain starts at +0: there the product alone is rounded, which is one operation.
        product_only = (addend == 0) & np.isfinite(factor * other) & (factor * other != 0)
        result[product_only] = factor[product_only] * other[product_only]
        result[usual] = _fma_in_range(factor[usual], other[usual], addend[usual])
        # A product that is a zero, an infinity or NaN of itself is exact.
        sum_only = (factor == 0) | (other == 0) | ~np.isfinite(factor) | ~np.isfinite(other)
        result[sum_only] = factor[sum_only] * other[sum_only] + addend[sum_only]
    for i in np.argwhere(~(usual | product_only | sum_only)):
        at = tuple(i)
        result[at] = exact(float(factor[at]), float(other[at]), float(addend[at]))
    return result


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Knuth: the rounded sum and what it lost."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Dekker: the rounded product and what it lost, by halves of 26 bits (Veltkamp)."""

    def halves(x: Any) -> tuple[Any, Any]:
        scaled = x * 134217729.0  # 2^27 + 1
        high = scaled - (scaled - x)
        return high, x - high

    product = a * b
    (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _fma_in_range(a: Any, b: Any, c: Any) -> Any:
    """Boldo and Melquiond, "Emulation of FMA and correctly rounded sums" (2008), figure 5."""
    high, low = _two_product(a, b)
    middle, lowest = two_sum(c, low)
    top, rest = two_sum(high, middle)
    tail, error = two_sum(lowest, rest)
    # The tail rounded to odd: the neighbour on the error's side where the last bit is 0.
    bits = tail.view(np.int64)
    to_odd = (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (tail > 0), 1, -1)
    odd = np.asarray(bits + np.where(to_odd, step, 0)).view(np.float64)
    return top + odd
