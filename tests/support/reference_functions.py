"""Rule R6 of the contract (docs/functions.md) in NumPy: the same expressions, element by element.

Inputs and results are float32 arrays. Every `+ - * /` below is one float32 operation and every
`fma` is rounded once, so a result must equal the kernels' bit for bit (NaN payloads aside).
Coefficients are hexadecimal strings, as in docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
from numpy.typing import NDArray

from tests.support.reference import F32, fma

I32 = NDArray[np.int32]


def f(hexadecimal: str) -> np.float32:
    """A float32 constant; a spelling that is no float32 is a mistake."""
    value = float.fromhex(hexadecimal)
    assert float(np.float32(value)) == value, hexadecimal
    return np.float32(value)


ZERO, HALF, ONE, TWO, THREE, FOUR, SIX = map(np.float32, (0, 0.5, 1, 2, 3, 4, 6))
INF, NAN = np.float32(np.inf), np.float32(np.nan)
SIGN = np.int32(-(2**31))
LOG2_E = f("0x1.715476p+0")
LN2_HIGH, LN2_LOW = f("0x1.62e4p-1"), f("0x1.7f7d1cp-20")
ROUNDER = f("0x1.8p+23")
TAIL_SHIFT, TAIL_UNSHIFT = 32, f("0x1p-32")
LEAST_EXPONENT = np.float32(-110.25)

EXP_TAIL = ["0x1.6b9b7cp-10", "0x1.1226e8p-7", "0x1.5556f4p-5", "0x1.5554b2p-3", "0x1.fffffep-2"]
LOG_TAIL = [
    "-0x1.381392p-4", "0x1.087506p-3", "-0x1.0f520ap-3", "0x1.226c84p-3", "-0x1.5423e8p-3",
    "0x1.99a41cp-3", "-0x1.000438p-2", "0x1.55555p-2", "-0x1.fffff8p-2",
]  # fmt: skip
ERF_INNER = [
    "-0x1.43f608p-11", "0x1.49755ap-8", "-0x1.b6e386p-6",
    "0x1.ce1fccp-4", "-0x1.8127p-2", "0x1.06eba6p-3",
]  # fmt: skip
ERF_OUTER = [
    "0x1.c35d92p-13", "-0x1.a6b994p-9", "0x1.778f8p-6",
    "-0x1.af5bbcp-4", "-0x1.4577e8p-1", "-0x1.07385ep-3",
]  # fmt: skip
GELU_INNER = ["-0x1.1b5434p-10", "0x1.45b194p-7", "-0x1.1053ep-4", "0x1.98844ap-2"]
GELU_OUTER = [
    "0x1.71e4eap-3", "-0x1.1a7b2cp-4", "-0x1.f2444ep-3", "0x1.d71c24p-3", "0x1.aac5d4p-3",
    "-0x1.e6398ep-2", "-0x1.17fa32p-2", "0x1.042686p+0", "0x1.dd514p+0", "0x1.0d37e2p-1",
]  # fmt: skip


# ---- Parts ---------------------------------------------------------------------------------------


def bits(x: F32) -> I32:
    return np.ascontiguousarray(x, np.float32).view(np.int32)


def from_bits(pattern: I32) -> F32:
    return np.asarray(pattern, np.int32).view(np.float32)


def negative_abs(x: F32) -> F32:
    return from_bits(bits(x) | SIGN)


def with_sign_of(magnitude: F32, x: F32) -> F32:
    return from_bits(bits(magnitude) | (bits(x) & SIGN))


def at_least(x: F32, floor: np.float32) -> F32:
    return np.where(x < floor, floor, x)


def at_most(x: F32, ceiling: np.float32) -> F32:
    return np.where(x > ceiling, ceiling, x)


def horner(coefficients: list[str], x: F32) -> F32:
    """The coefficient of the highest power comes first."""
    value = np.full_like(x, f(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = fma(value, x, f(coefficient))
    return value


def exponential(z: F32, shift: int, z_low: F32 | None = None) -> tuple[F32, F32]:
    """exp(z + z_low) = (1 + fraction) * scale * 2^-shift; returns fraction and scale."""
    biased_rounder = np.float32(ROUNDER + np.float32(127 + shift))
    rounded = fma(z, LOG2_E, biased_rounder)
    n = rounded - biased_rounder
    r = fma(n, -LN2_HIGH, z)
    if z_low is None:
        r = fma(n, -LN2_LOW, r)
        fraction = fma(r * r, horner(EXP_TAIL, r), r)
    else:
        r_low = fma(n, -LN2_LOW, z_low)
        r_high, r = r, r + r_low
        r_rest = (r_high - r) + r_low
        fraction = r + fma(r * r, horner(EXP_TAIL, r), r_rest)
    return fraction, from_bits(bits(rounded) << 23)


def times_sigmoid(x: F32, negative: NDArray[np.bool_], fraction: F32, scale: F32) -> F32:
    """x / (1 + exp(-z)), given exp(-|z|) and where z is negative."""
    small = scale * TAIL_UNSHIFT
    t = fma(small, fraction, small)
    denominator = ONE + t
    quotient = np.where(negative, t, x) / denominator
    rest = t - (denominator - ONE)
    y = fma(x, fma(quotient, rest, fraction), x)
    return np.where(negative, (fma(-y, quotient, y) * scale) * TAIL_UNSHIFT, quotient)


# ---- Functions -----------------------------------------------------------------------------------


def elementwise(function: Callable[..., F32]) -> Callable[..., F32]:
    """Values not chosen by a `where` may overflow or be NaN: silence that, and check the type."""

    @wraps(function)
    def quiet(x: F32, **options: object) -> F32:
        with np.errstate(all="ignore"):
            y = function(np.asarray(x, np.float32), **options)
        assert y.dtype == np.float32, y.dtype
        return y

    return quiet


@elementwise
def exp(x: F32) -> F32:
    biased_rounder = np.float32(ROUNDER + np.float32(2 * 127))
    x = at_least(at_most(x, np.float32(89)), np.float32(-104))
    rounded = fma(x, LOG2_E, biased_rounder)
    n = rounded - biased_rounder
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = fma(fma(horner(EXP_TAIL, r), r, ONE), r, ONE)
    half = bits(rounded) >> 1
    return (p * from_bits(half << 23)) * from_bits((bits(rounded) - half) << 23)


@elementwise
def log(x: F32) -> F32:
    sqrt_half = np.int32(0x3F3504F3)
    subnormal = x < f("0x1p-126")
    normal = np.where(subnormal, x * f("0x1p+23"), x)
    pattern = (bits(normal) & np.int32(0x7FFFFFFF)) - sqrt_half
    k = (from_bits((pattern >> 23) + np.int32(0x4B400000)) - ROUNDER) + np.where(
        subnormal, np.float32(-23), ZERO
    )
    m = from_bits((pattern & np.int32(0x007FFFFF)) + sqrt_half) - ONE
    y = fma(k, LN2_HIGH, fma(k, LN2_LOW, fma(m * m, horner(LOG_TAIL, m), m)))
    y = np.where(x > 0, y, np.where(x == 0, -INF, NAN))
    return np.where(x < INF, y, x)


@elementwise
def sqrt(x: F32) -> F32:
    return np.sqrt(x)


@elementwise
def rsqrt(x: F32) -> F32:
    return ONE / np.sqrt(x)


@elementwise
def tanh(x: F32) -> F32:
    z = at_least(negative_abs(x) * np.float32(2), np.float32(-20))
    fraction, scale = exponential(z, 0)
    m = fma(scale, fraction, scale - ONE)
    return with_sign_of(np.abs(m) / fma(scale, fraction, scale + ONE), x)


@elementwise
def erf(x: F32) -> F32:
    inner = fma(horner(ERF_INNER, x * x), x, x)
    a = at_most(np.abs(x), np.float32(4))
    fraction, scale = exponential(fma(horner(ERF_OUTER, a), a, -a), 0)
    outer = fma(-scale, fraction, ONE - scale)
    return np.where(a < np.float32(0.875), inner, with_sign_of(outer, x))


@elementwise
def sigmoid(x: F32) -> F32:
    fraction, scale = exponential(at_least(negative_abs(x), LEAST_EXPONENT), TAIL_SHIFT)
    small = scale * TAIL_UNSHIFT
    t = fma(small, fraction, small)
    q = t / (ONE + t)
    y = np.where(x < 0, t, ONE)
    return fma(-y, q, y)


@elementwise
def silu(x: F32) -> F32:
    fraction, scale = exponential(at_least(negative_abs(x), LEAST_EXPONENT), TAIL_SHIFT)
    return times_sigmoid(x, x < 0, fraction, scale)


@elementwise
def mish(x: F32) -> F32:
    negative = x < 0
    z = at_least(negative_abs(x), LEAST_EXPONENT)
    fraction, scale = exponential(z, TAIL_SHIFT, ZERO)
    small = scale * TAIL_UNSHIFT
    t = fma(small, fraction, small)
    numerator = fma(t * np.where(negative, -HALF, TWO), np.where(negative, t, ONE - t), ONE)
    denominator = fma(t * np.where(negative, ONE, FOUR), t + np.where(negative, TWO, ONE), TWO)
    h = numerator / denominator
    half = x * HALF
    y = fma(x, fma(fraction, h + HALF, h), half)
    return np.where(negative, (y * scale) * TAIL_UNSHIFT, fma(x, h, half))


@elementwise
def gelu(x: F32, approximate: str = "none") -> F32:
    return {"none": gelu_erf, "tanh": gelu_tanh}[approximate](x)


@elementwise
def gelu_erf(x: F32) -> F32:
    inner = x * fma(horner(GELU_INNER, x * x), x, HALF)

    w = at_least(negative_abs(x), np.float32(-14.8375))
    half = w * -HALF
    z = w * half
    fraction, scale = exponential(z, TAIL_SHIFT, fma(w, half, -z))
    v = w / (np.float32(2.5) - w)
    p = horner(GELU_OUTER, v + np.float32(0.4375))
    c = fma(fraction, p + ONE, p)
    t = (fma(v, c, v) * scale) * f("0x1p-33")
    outer = np.where(x > 0, x, x * ZERO) + t
    return np.where(w > np.float32(-0.65), inner, outer)


@elementwise
def gelu_tanh(x: F32) -> F32:
    c, c_low = f("0x1.2444f2p-4"), f("0x1.49b16ap-29")
    k, k_low = f("0x1.65d2p+4"), f("0x1.7b767cp-14")
    w = at_least(negative_abs(x), np.float32(-10.92))
    square = w * w
    square_low = fma(w, w, -square)
    total = square + k
    total_low = (square - (total - k)) + (square_low + k_low)
    factor = w * c
    factor_low = fma(w, c_low, fma(w, c, -factor))
    z = factor * total
    z_low = fma(factor, total_low, fma(factor_low, total, fma(factor, total, -z)))
    return times_sigmoid(x, x < 0, *exponential(z, TAIL_SHIFT, z_low))


@elementwise
def relu(x: F32) -> F32:
    return np.where(x <= 0, ZERO, x)


@elementwise
def relu6(x: F32) -> F32:
    return at_most(relu(x), SIX)


@elementwise
def hardsigmoid(x: F32) -> F32:
    return relu6(x + THREE) / SIX


@elementwise
def hardswish(x: F32) -> F32:
    return x * hardsigmoid(x)


@elementwise
def leaky_relu(x: F32, negative_slope: float = 0.01) -> F32:
    return np.where(x > 0, x, x * np.float32(negative_slope))


# By the names and options of torch.nn.functional.
FUNCTIONS: dict[str, Callable[..., F32]] = {
    function.__name__: function
    for function in (
        exp, log, tanh, erf, sigmoid, silu, mish, gelu, relu, relu6, hardsigmoid, hardswish,
        leaky_relu, sqrt, rsqrt,
    )
}  # fmt: skip
