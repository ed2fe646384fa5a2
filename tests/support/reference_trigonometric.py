"""R6 in NumPy, continued: sin, cos and tan, which both formats have from binary64."""

from __future__ import annotations

import numpy as np

from tests.support.reference_binary64 import fast_two_sum, horner, in_binary64, two_product
from tests.support.reference_fma64 import F64, fma64, two_sum
from tests.support.reference_format import Integers, from_bits

HALF_PI, HALF_PI_LOW, HALF_PI_LOWEST = map(
    float.fromhex, ("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54", "-0x1.f1976b7ed8fbcp-110")
)
TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
ROUNDER = 1.5 * 2.0**52
LARGE = 2.0**30

SINE = [
    "-0x1.ab17a79237a19p-41", "0x1.61217ec01749dp-33", "-0x1.ae64541266378p-26",
    "0x1.71de3a54605eep-19", "-0x1.a01a01a019936p-13", "0x1.1111111111110p-7",
    "-0x1.5555555555555p-3",
]  # fmt: skip
COSINE = [
    "-0x1.907d7aebd5e3dp-37", "0x1.1eeb68b109173p-29", "-0x1.27e4fa17a41b4p-22",
    "0x1.a01a019f4e867p-16", "-0x1.6c16c16c16966p-10", "0x1.5555555555555p-5",
]  # fmt: skip
# The first 1280 bits of 2/pi, as an integer.
BITS_OF_2_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af4361d",
    16,
)


def _distance_in_quadrants(x: float) -> tuple[int, float, float, bool]:
    """Of a number beyond 2^30: n modulo 4, the distance from it in two parts, and its sign."""
    pattern = int(np.float64(abs(x)).view(np.int64))
    significand, exponent = pattern & (2**52 - 1) | 2**52, (pattern >> 52) - 1075
    # 192 bits of 2/pi, the first of which has the weight 2 times 2^-exponent.
    window = BITS_OF_2_OVER_PI >> (1280 + 64 - 192 - (exponent + 62)) & (2**192 - 1)
    product = (
        (significand * (window >> 64)) + (significand * (window & (2**64 - 1)) >> 64)
    ) % 2**128
    n = (product + 2**125) >> 126
    distance = product - (n << 126)
    bits = abs(distance) << 64
    length = bits.bit_length()
    unit = 2.0 ** (length - 53 - 64 - 126)
    a, b = bits >> (length - 53), bits >> (length - 106) & (2**53 - 1)
    return (-n if x < 0 else n) & 3, a * unit, b * (unit * 2.0**-53), (distance < 0) != (x < 0)


def _reduce_large(x: F64) -> tuple[F64, F64, F64]:
    """n modulo 4, r and r_low of x = n pi/2 + r + r_low."""
    n, a, b, negative = map(np.array, zip(*map(_distance_in_quadrants, x.tolist()), strict=True))
    r, r_low = two_product(a, np.float64(HALF_PI))
    r_low = r_low + fma64(a, HALF_PI_LOW, b * HALF_PI)
    return n.astype(np.float64), np.where(negative, -r, r), np.where(negative, -r_low, r_low)


def angle(x: F64) -> tuple[Integers, tuple[F64, F64], tuple[F64, F64]]:
    """n modulo 4, and the sine and the cosine of x - n pi/2, in two parts each."""
    n = fma64(x, TWO_OVER_PI, ROUNDER) - ROUNDER
    first = fma64(-n, HALF_PI, x)
    second, second_low = two_product(n, HALF_PI_LOW)
    difference, low = two_sum(first, -second)
    r, r_low = fast_two_sum(difference, (low - second_low) - n * HALF_PI_LOWEST)
    large = (np.abs(x) >= LARGE) & np.isfinite(x)
    if large.any():
        n[large], r[large], r_low[large] = _reduce_large(x[large])
    square = r * r
    sine_rest = fma64(square * r, horner(SINE, square), r_low * fma64(square, -0.5, 1.0))
    half = square * 0.5
    near = 1.0 - half
    cosine_rest = ((1.0 - near) - half) + fma64(
        square * square, horner(COSINE, square), -(r * r_low)
    )
    quadrant = np.asarray(n + ROUNDER).view(np.int64)
    return quadrant, fast_two_sum(r, sine_rest), fast_two_sum(near, cosine_rest)


def _signed(y: F64, negative: Integers) -> F64:
    return from_bits(np.ascontiguousarray(y).view(np.int64) ^ (negative << 62))


def _of_finite(x: F64, y: F64) -> F64:
    return np.where(np.isfinite(x), y, np.nan)


@in_binary64
def sin(x: F64) -> F64:
    n, (sine, _), (cosine, _) = angle(x)
    y = _signed(np.where(n & 1, cosine, sine), n & 2)
    return _of_finite(x, np.where(x == 0, x, y))


@in_binary64
def cos(x: F64) -> F64:
    n, (sine, _), (cosine, _) = angle(x)
    return _of_finite(x, _signed(np.where(n & 1, sine, cosine), (n + 1) & 2))


@in_binary64
def tan(x: F64) -> F64:
    n, sine, cosine = angle(x)
    over, over_low = (np.where(n & 1, -c, s) for s, c in zip(sine, cosine, strict=True))
    under, under_low = (np.where(n & 1, s, c) for s, c in zip(sine, cosine, strict=True))
    quotient = over / under
    rest = fma64(-quotient, under, over) + fma64(-quotient, under_low, over_low)
    return _of_finite(x, np.where(x == 0, x, quotient + rest / under))
