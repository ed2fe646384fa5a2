"""R6 in NumPy, continued: pow, divisions whose quotient is an integer, and all functions of two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.reference_angles import atan2, hypot
from tests.support.reference_binary64 import fast_two_sum, horner, in_binary64, two_product
from tests.support.reference_fma64 import F64, fma64
from tests.support.reference_format import (
    BINARY64,
    Reals,
    at_least,
    at_most,
    bits,
    exponential,
    from_bits,
)
from tests.support.reference_functions import split

THIRD, THIRD_LOW = map(float.fromhex, ("0x1.5555555555555p-2", "0x1.5555555555555p-56"))
LN2_HIGH, LN2_LOW = map(float.fromhex, BINARY64.ln2)
LOG_TAIL = [
    "0x1.b8d433113b7fap-5", "0x1.ac4a89c964b82p-5", "0x1.e1f7fa7547177p-5",
    "0x1.1110dfad0f8eap-4", "0x1.3b13b1bc75cd4p-4", "0x1.745d174513593p-4",
    "0x1.c71c71c71cfd9p-4", "0x1.2492492492491p-3", "0x1.999999999999ap-3",
]  # fmt: skip


# ---- pow -----------------------------------------------------------------------------------------


def log_pair(x: F64) -> tuple[F64, F64]:
    """log(x) in two parts, of finite positive numbers."""
    k, f = split(x)
    denominator = f + 2.0
    denominator_low = f - (denominator - 2.0)
    s = f / denominator
    s_low = fma64(-s, denominator_low, fma64(-s, denominator, f)) / denominator
    square, square_low = two_product(s, s)
    square_low = fma64(s + s, s_low, square_low)
    third, third_low = two_product(square, THIRD)
    third_low = fma64(square, THIRD_LOW, fma64(square_low, THIRD, third_low))
    higher = (square * square) * horner(LOG_TAIL, square)
    w, w_low = fast_two_sum(third, higher)
    w_low = w_low + third_low
    twice, twice_low = s + s, s_low + s_low
    product, product_low = two_product(twice, w)
    product_low = fma64(twice, w_low, fma64(twice_low, w, product_low))
    log1p, log1p_low = fast_two_sum(twice, product)
    log1p_low = log1p_low + (product_low + twice_low)
    total, low = fast_two_sum(k * LN2_HIGH, log1p)
    return fast_two_sum(total, low + fma64(k, LN2_LOW, log1p_low))


def exp_of_pair(z: F64, z_low: F64) -> F64:
    z = at_least(at_most(z, 710.0), -746.0)
    fraction, _ = exponential(z, 1023, z_low)
    rounded = fma64(z, float.fromhex(BINARY64.log2_e), 1.5 * 2.0**52 + 2046)
    half = bits(rounded) >> 1
    p = 1.0 + fraction
    return (p * from_bits(half << 52)) * from_bits((bits(rounded) - half) << 52)


def is_integer(x: F64) -> np.ndarray:
    return np.isinf(x) | (np.trunc(x) == x)


@in_binary64
def pow(x: F64, y: F64) -> F64:
    base, exponent = np.abs(x), np.abs(y)
    regular = (base > 0) & (base < np.inf)
    log, log_low = log_pair(np.where(regular, base, 2.0))
    log = np.where(regular, log, np.where(base == 0, -np.inf, base))
    product = y * log
    fits = regular & (np.abs(product) < 1000)
    high, least = np.where(fits, log, 0.0), np.where(fits, log_low, 0.0)
    y_fits = np.where(fits, y, 0.0)
    _, low = two_product(y_fits, high)
    low = fma64(y_fits, least, low)
    power = exp_of_pair(product, low)
    power = np.where(base == 1, np.where(np.isnan(y), y, 1.0), power)
    odd = is_integer(exponent) & ~is_integer(exponent * 0.5)
    power = np.where(odd & np.signbit(x), -power, power)
    power = np.where((x < 0) & (base < np.inf) & ~is_integer(exponent), np.nan, power)
    return np.where((x == 1) | (y == 0), 1.0, power)


# ---- Integer quotients: in the arithmetic type itself --------------------------------------------


def fmod(x: Reals, y: Reals) -> Reals:
    with np.errstate(all="ignore"):
        return np.fmod(x, y)


def _signs_differ(rest: Reals, y: Reals) -> np.ndarray:
    return (rest != 0) & ((y < 0) != (rest < 0))


def remainder(x: Reals, y: Reals) -> Reals:
    with np.errstate(all="ignore"):
        rest = np.fmod(x, y)
        return np.where(_signs_differ(rest, y), rest + y, rest)


def floor_divide(x: Reals, y: Reals) -> Reals:
    one, half = x.dtype.type(1), x.dtype.type(0.5)
    with np.errstate(all="ignore"):
        quotient, rest = x / y, np.fmod(x, y)
        whole = (x - rest) / y
        whole = np.where(_signs_differ(rest, y), whole - one, whole)
        below = np.floor(whole)
        below = np.where(whole - below > half, below + one, below)
        below = np.where(whole == 0, np.copysign(x.dtype.type(0), quotient), below)
        return np.where(y == 0, quotient, below)


def trunc_divide(x: Reals, y: Reals) -> Reals:
    with np.errstate(all="ignore"):
        return np.trunc(x / y)


# By the names of bninv.functional.
BINARY: dict[str, Callable[..., Reals]] = {
    function.__name__: function
    for function in (pow, atan2, hypot, fmod, remainder, floor_divide, trunc_divide)
}
