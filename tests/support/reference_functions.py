"""Rule R6 of the contract (docs/functions.md) in NumPy: the same expressions, element by element.

Inputs and results are float32 or float64 arrays. Every `+ - * /` below is one operation of that
type and every `fma` is rounded once, so a result must equal the kernels' bit for bit (NaN payloads
aside). Coefficients are hexadecimal strings, as in docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from tests.support.reference_angles import atan
from tests.support.reference_format import (
    BINARY64,
    INF,
    NAN,
    Reals,
    at_least,
    at_most,
    bits,
    exponential,
    fma,
    from_bits,
    horner,
    negative_abs,
    of,
    reduced,
    shifted,
    times_sigmoid,
    with_sign_of,
)
from tests.support.reference_hyperbolic import cosh, sinh
from tests.support.reference_trigonometric import cos, sin, tan


def elementwise(function: Callable[..., Reals]) -> Callable[..., Reals]:
    """Values not chosen by a `where` may overflow or be NaN: silence that, and check the type."""

    @wraps(function)
    def quiet(x: Reals, **options: object) -> Reals:
        x = np.asarray(x)
        with np.errstate(all="ignore"):
            y = function(x if x.dtype == np.float64 else x.astype(np.float32), **options)
        assert y.dtype == of(x).real, y.dtype
        return y

    return quiet


@elementwise
def exp(x: Reals) -> Reals:
    c = of(x)
    least, greatest = map(c, c.exp_range)
    ln2_high, ln2_low = map(c, c.ln2)
    x = at_least(at_most(x, greatest), least)
    n, rounded = reduced(x, c.bias)
    r = fma(n, -ln2_low, fma(n, -ln2_high, x))
    p = fma(fma(horner(c.polynomials["exp tail"], r), r, c(1)), r, c(1))
    half = bits(rounded) >> 1
    return (p * from_bits(half << c.fraction)) * from_bits((bits(rounded) - half) << c.fraction)


@elementwise
def exp2(x: Reals) -> Reals:
    c = of(x)
    least, greatest = map(c, c.exp2_range)
    rounder = c(1.5 * 2.0**c.fraction + 2 * c.bias)
    x = at_least(at_most(x, greatest), least)
    rounded = x + rounder
    r = (x - (rounded - rounder)) * c.real(np.log(2))
    p = fma(fma(horner(c.polynomials["exp tail"], r), r, c(1)), r, c(1))
    half = bits(rounded) >> 1
    return (p * from_bits(half << c.fraction)) * from_bits((bits(rounded) - half) << c.fraction)


@elementwise
def expm1(x: Reals) -> Reals:
    c = of(x)
    z = at_least(at_most(x, c(c.exp_range[1])), c(c.expm1_is_minus_one))
    fraction, scale = exponential(z, -1, c(0))
    m = fma(scale, fraction, scale - c(0.5)) * c(2)
    return with_sign_of(np.abs(np.where(scale == 0.5, fraction, m)), x)


def split(u: Reals) -> tuple[Reals, Reals]:
    """u = 2^k (1 + f): k and f."""
    c = of(u)
    rounder = c(1.5 * 2.0**c.fraction)
    sqrt_half = c.pattern(c.sqrt_half)
    subnormal = u < c(2.0 ** (1 - c.bias))
    normal = np.where(subnormal, u * c(2.0**c.fraction), u)
    pattern = (bits(normal) & np.iinfo(c.integer).max) - sqrt_half
    k = (from_bits((pattern >> c.fraction) + bits(np.asarray(rounder))) - rounder) + np.where(
        subnormal, c(-c.fraction), c(0)
    )
    return k, from_bits((pattern & c.pattern((1 << c.fraction) - 1)) + sqrt_half) - c(1)


def of_positive(x: Reals, y: Reals) -> Reals:
    y = np.where(x > 0, y, np.where(x == 0, -INF, NAN))
    return np.where(x < INF, y, x)


def log_tail(f: Reals) -> Reals:
    return horner(of(f).polynomials["log tail"], f)


def log_with_rest(u: Reals, rest: Reals) -> Reals:
    c = of(u)
    ln2_high, ln2_low = map(c, c.ln2)
    k, f = split(u)
    small = fma(f * f, log_tail(f), rest / u)
    return fma(k, ln2_high, fma(k, ln2_low, f + small))


def log1p_exp(x: Reals) -> Reals:
    """log(1 + e^-|x|)."""
    c = of(x)
    fraction, scale, unshift = shifted(at_least(negative_abs(x), c(c.least_exponent)), c(0))
    scale = scale * unshift
    t = fma(scale, fraction, scale)
    t_low = fma(scale, fraction, scale - t)
    u = c(1) + t
    return log_with_rest(u, (t - (u - c(1))) + t_low)


@elementwise
def log(x: Reals) -> Reals:
    c = of(x)
    ln2_high, ln2_low = map(c, c.ln2)
    k, f = split(x)
    return of_positive(x, fma(k, ln2_high, fma(k, ln2_low, fma(f * f, log_tail(f), f))))


@elementwise
def log2(x: Reals) -> Reals:
    c = of(x)
    k, f = split(x)
    t = fma(f * f, log_tail(f), f)
    return of_positive(x, fma(t, c(c.log2_e), fma(t, c(c.log2_e_low), k)))


@elementwise
def log10(x: Reals) -> Reals:
    c = of(x)
    e_high, e_low = map(c, c.log10_e)
    two_high, two_low = map(c, c.log10_2)
    k, f = split(x)
    t = fma(f * f, log_tail(f), f)
    rest = fma(t, e_high, t * e_low)
    return of_positive(x, fma(k, two_high, fma(k, two_low, rest)))


@elementwise
def log1p(x: Reals) -> Reals:
    c = of(x)
    u = c(1) + x
    rest = np.where(x > 1, c(1) - (u - x), x - (u - c(1)))
    y = with_sign_of(np.abs(log_with_rest(u, rest)), x)
    y = np.where(u > 0, y, np.where(u == 0, -INF, NAN))
    return np.where(x < INF, y, x)


@elementwise
def softplus(x: Reals, beta: float = 1, threshold: float = 20) -> Reals:
    c = of(x)
    z = x * c.real(beta)
    y = (np.where(z > 0, z, c(0)) + log1p_exp(z)) / c.real(beta)
    return np.where(z > c.real(threshold), x, y)


@elementwise
def logsigmoid(x: Reals) -> Reals:
    return -(np.where(x < 0, -x, of(x)(0)) + log1p_exp(x))


@elementwise
def elu(x: Reals, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Reals:
    c = of(x)
    negative = expm1(x * c.real(input_scale)) * c.real(alpha * scale)
    return np.where(x > 0, x * c.real(scale), negative)


def celu(x: Reals, alpha: float = 1) -> Reals:
    return elu(x, alpha=alpha, input_scale=1 / alpha)


def selu(x: Reals) -> Reals:
    return elu(x, alpha=1.6732632423543772848, scale=1.0507009873554804934)


@elementwise
def sqrt(x: Reals) -> Reals:
    return np.sqrt(x)


@elementwise
def rsqrt(x: Reals) -> Reals:
    return of(x)(1) / np.sqrt(x)


@elementwise
def tanh(x: Reals) -> Reals:
    c = of(x)
    z = at_least(negative_abs(x) * c(2), c(c.tanh_is_one))
    fraction, scale = exponential(z, 0, c(0) if c is BINARY64 else None)
    m = fma(scale, fraction, scale - c(1))
    return with_sign_of(np.abs(m) / fma(scale, fraction, scale + c(1)), x)


@elementwise
def erf(x: Reals) -> Reals:
    c = of(x)
    inner = fma(horner(c.polynomials["erf inner"], x * x), x, x)
    a = at_most(np.abs(x), c(c.erf_is_one))
    fraction, scale = exponential(fma(horner(c.polynomials["erf outer"], a), a, -a), 0)
    outer = fma(-scale, fraction, c(1) - scale)
    return np.where(a < c(0.875), inner, with_sign_of(outer, x))


@elementwise
def sigmoid(x: Reals) -> Reals:
    c = of(x)
    fraction, scale, unshift = shifted(at_least(negative_abs(x), c(c.least_exponent)))
    small = scale * unshift
    t = fma(small, fraction, small)
    q = t / (c(1) + t)
    y = np.where(x < 0, t, c(1))
    return fma(-y, q, y)


@elementwise
def silu(x: Reals) -> Reals:
    c = of(x)
    z = at_least(negative_abs(x), c(c.least_exponent))
    return times_sigmoid(x, x < 0, *shifted(z))


@elementwise
def mish(x: Reals) -> Reals:
    c = of(x)
    one, half = c(1), c(0.5)
    negative = x < 0
    z = at_least(negative_abs(x), c(c.least_exponent))
    fraction, scale, unshift = shifted(z, c(0))
    small = scale * unshift
    t = fma(small, fraction, small)
    numerator = fma(t * np.where(negative, -half, c(2)), np.where(negative, t, one - t), one)
    denominator = fma(t * np.where(negative, one, c(4)), t + np.where(negative, c(2), one), c(2))
    h = numerator / denominator
    y = fma(x, fma(fraction, h + half, h), x * half)
    return np.where(negative, (y * scale) * unshift, fma(x, h, x * half))


@elementwise
def gelu(x: Reals, approximate: str = "none") -> Reals:
    return {"none": gelu_erf, "tanh": gelu_tanh}[approximate](x)


@elementwise
def gelu_erf(x: Reals) -> Reals:
    c = of(x)
    inner = x * fma(horner(c.polynomials["gelu inner"], x * x), x, c(0.5))

    w = at_least(negative_abs(x), c(c.gelu_least))
    half = w * c(-0.5)
    z = w * half
    fraction, scale, unshift = shifted(z, fma(w, half, -z))
    pole, shift = (2.25, 0.59375) if c is BINARY64 else (2.5, 0.4375)
    v = w / (c(pole) - w)
    p = horner(c.polynomials["gelu outer"], v + c(shift))
    factor = fma(fraction, p + c(1), p)
    t = (fma(v, factor, v) * scale) * (c(0.5) * unshift)
    outer = np.where(x > 0, x, x * c(0)) + t
    return np.where(w > c.real(-0.65), inner, outer)


@elementwise
def gelu_tanh(x: Reals) -> Reals:
    c = of(x)
    k, k_low, scale, scale_low = map(c, c.polynomials["gelu tanh"])
    w = at_least(negative_abs(x), c(c.gelu_tanh_least))
    square = w * w
    square_low = fma(w, w, -square)
    total = square + k
    total_low = (square - (total - k)) + (square_low + k_low)
    factor = w * scale
    factor_low = fma(w, scale_low, fma(w, scale, -factor))
    z = factor * total
    z_low = fma(factor, total_low, fma(factor_low, total, fma(factor, total, -z)))
    return times_sigmoid(x, x < 0, *shifted(z, z_low))


@elementwise
def relu(x: Reals) -> Reals:
    return np.where(x <= 0, of(x)(0), x)


@elementwise
def relu6(x: Reals) -> Reals:
    return at_most(relu(x), of(x)(6))


@elementwise
def hardsigmoid(x: Reals) -> Reals:
    return relu6(x + of(x)(3)) / of(x)(6)


@elementwise
def hardswish(x: Reals) -> Reals:
    return x * hardsigmoid(x)


@elementwise
def leaky_relu(x: Reals, negative_slope: float = 0.01) -> Reals:
    return np.where(x > 0, x, x * of(x).real(negative_slope))


# By the names and options of torch.nn.functional.
FUNCTIONS: dict[str, Callable[..., Reals]] = {
    function.__name__: function
    for function in (
        exp, exp2, expm1, log, log1p, log2, log10, softplus, logsigmoid, elu, celu, selu,
        tanh, erf, sigmoid, silu, mish, gelu, relu, relu6, hardsigmoid, hardswish,
        leaky_relu, sqrt, rsqrt, sin, cos, tan, atan, sinh, cosh,
    )
}  # fmt: skip
