"""Rule R6 of the contract (docs/functions.md) in NumPy: the same expressions, element by element.

Inputs and results are float32 or float64 arrays. Every `+ - * /` below is one operation of that
type and every `fma` is rounded once, so a result must equal the kernels' bit for bit (NaN payloads
aside). Coefficients are hexadecimal strings, as in docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.reference import fma as fma32
from tests.support.reference_fma64 import fma64

Reals = NDArray[Any]
Integers = NDArray[Any]

INF, NAN = np.float32(np.inf), np.float32(np.nan)


@dataclass(frozen=True)
class Format:
    """What the two arithmetic types differ in; called, it makes a constant of its type."""

    real: type
    integer: type
    fraction: int
    bias: int
    fma: Callable[..., Reals]
    log2_e: str
    ln2: tuple[str, str]
    exp_range: tuple[str, str]
    exp2_range: tuple[int, int]
    expm1_is_minus_one: int
    log2_e_low: str
    log10_e: tuple[str, str]
    log10_2: tuple[str, str]
    sqrt_half: int  # its pattern
    tail_shift: int
    least_exponent: str
    tanh_is_one: str
    erf_is_one: str
    gelu_least: str
    gelu_tanh_least: str
    polynomials: dict[str, list[str]]

    def __call__(self, value: str | float) -> Any:
        """A spelling that is no number of this type is a mistake."""
        number = float.fromhex(value) if isinstance(value, str) else value
        assert float(self.real(number)) == number, value
        return self.real(number)

    def pattern(self, value: int) -> Any:
        return self.integer(value)


BINARY32 = Format(
    *(np.float32, np.int32, 23, 127, fma32),
    log2_e="0x1.715476p+0",
    ln2=("0x1.62e4p-1", "0x1.7f7d1cp-20"),
    exp_range=("-0x1.ap+6", "0x1.64p+6"),
    exp2_range=(-151, 129),
    expm1_is_minus_one=-20,
    log2_e_low="0x1.4ae0cp-26",
    log10_e=("0x1.bcb7b2p-2", "-0x1.5b235ep-27"),
    log10_2=("0x1.344p-2", "0x1.3509f8p-18"),
    sqrt_half=0x3F3504F3,
    tail_shift=32,
    least_exponent="-0x1.b9p+6",
    tanh_is_one="-0x1.4p+4",
    erf_is_one="0x1p+2",
    gelu_least=float(np.float32(-14.8375)).hex(),
    gelu_tanh_least=float(np.float32(-10.92)).hex(),
    polynomials={
        "exp tail": [
            "0x1.6b9b7cp-10", "0x1.1226e8p-7", "0x1.5556f4p-5", "0x1.5554b2p-3", "0x1.fffffep-2",
        ],
        "log tail": [
            "-0x1.381392p-4", "0x1.087506p-3", "-0x1.0f520ap-3", "0x1.226c84p-3", "-0x1.5423e8p-3",
            "0x1.99a41cp-3", "-0x1.000438p-2", "0x1.55555p-2", "-0x1.fffff8p-2",
        ],
        "erf inner": [
            "-0x1.43f608p-11", "0x1.49755ap-8", "-0x1.b6e386p-6",
            "0x1.ce1fccp-4", "-0x1.8127p-2", "0x1.06eba6p-3",
        ],
        "erf outer": [
            "0x1.c35d92p-13", "-0x1.a6b994p-9", "0x1.778f8p-6",
            "-0x1.af5bbcp-4", "-0x1.4577e8p-1", "-0x1.07385ep-3",
        ],
        "gelu inner": ["-0x1.1b5434p-10", "0x1.45b194p-7", "-0x1.1053ep-4", "0x1.98844ap-2"],
        "gelu outer": [
            "0x1.71e4eap-3", "-0x1.1a7b2cp-4", "-0x1.f2444ep-3", "0x1.d71c24p-3", "0x1.aac5d4p-3",
            "-0x1.e6398ep-2", "-0x1.17fa32p-2", "0x1.042686p+0", "0x1.dd514p+0", "0x1.0d37e2p-1",
        ],
        "gelu tanh": ["0x1.65d2p+4", "0x1.7b767cp-14", "0x1.2444f2p-4", "0x1.49b16ap-29"],
    },
)  # fmt: skip

BINARY64 = Format(
    *(np.float64, np.int64, 52, 1023, fma64),
    log2_e="0x1.71547652b82fep+0",
    ln2=("0x1.62e42fefa38p-1", "0x1.ef35793c7673p-45"),
    exp_range=("-0x1.75p+9", "0x1.63p+9"),
    exp2_range=(-1076, 1025),
    expm1_is_minus_one=-40,
    log2_e_low="0x1.777d0ffda0d24p-56",
    log10_e=("0x1.bcb7b1526e50ep-2", "0x1.95355baaafad3p-57"),
    log10_2=("0x1.34413509f8p-2", "-0x1.80433b83b532ap-44"),
    sqrt_half=0x3FE6A09E667F3BCD,
    tail_shift=64,
    least_exponent="-0x1.78dp+9",
    tanh_is_one="-0x1.4p+5",
    erf_is_one="0x1.8p+2",
    gelu_least="-0x1.368p+5",
    gelu_tanh_least=(-21.6).hex(),
    polynomials={
        "exp tail": [
            "0x1.1f25184decb69p-29", "0x1.af5d23d2bd50ep-26", "0x1.27e5053cf20fap-22",
            "0x1.71ddf9342cd10p-19", "0x1.a01a0198e57f7p-16", "0x1.a01a01af98f42p-13",
            "0x1.6c16c16c1762bp-10", "0x1.111111110f71cp-7", "0x1.5555555555558p-5",
            "0x1.5555555555559p-3", "0x1p-1",
        ],
        "log tail": [
            "-0x1.d950a51f44b06p-6", "0x1.03d54a18d837cp-4", "-0x1.067fa5955ea3dp-4",
            "0x1.ab840b5809ffep-5", "-0x1.acd651daa40a9p-5", "0x1.de35c05f91429p-5",
            "-0x1.0181ffbee0036p-4", "0x1.11684e341c939p-4", "-0x1.2478b7dfbecd5p-4",
            "0x1.3b0c41c748d1ep-4", "-0x1.55565805c144dp-4", "0x1.745d72f7afe15p-4",
            "-0x1.9999939f58417p-4", "0x1.c71c6f34704fcp-4", "-0x1.00000009990edp-3",
            "0x1.24924929b7284p-3", "-0x1.55555555471f3p-3", "0x1.999999998f94cp-3",
            "-0x1.0000000000034p-2", "0x1.555555555558bp-2", "-0x1p-1",
        ],
        "erf inner": [
            "-0x1.6284e14479c8fp-30", "0x1.117a2d053e757p-26", "-0x1.64e1fdeb31145p-23",
            "0x1.baabdcf60fe5bp-20", "-0x1.f4e30ba0b092fp-17", "0x1.f9a40b743cc5ap-14",
            "-0x1.c02dbbc99c3b5p-11", "0x1.565bcd389b4fbp-8", "-0x1.b82ce31393143p-6",
            "0x1.ce2f21a0461cep-4", "-0x1.812746b037a2bp-2", "0x1.06eba8214db69p-3",
        ],
        "erf outer": [
            "-0x1.2c7c8952adcd6p-43", "0x1.f22feb2b786a8p-38", "-0x1.82007a51c7922p-33",
            "0x1.73b38dafafb7bp-29", "-0x1.f2a35572e34d1p-26", "0x1.ee717293ac6e4p-23",
            "-0x1.76800735377a6p-20", "0x1.b7c92e40c73cdp-18", "-0x1.8ea2668f14a77p-16",
            "0x1.0c56d01fa5054p-14", "-0x1.ce8068efbcb08p-14", "0x1.80bc477813702p-16",
            "0x1.1fbff85a57defp-11", "-0x1.b57e0941d98c4p-10", "0x1.99d04d3e3aac2p-13",
            "0x1.397bee6ba887ap-6", "-0x1.a4f63ff66c33fp-4", "-0x1.45f3001020fb7p-1",
            "-0x1.06ebaa0f6b329p-3",
        ],
        "gelu inner": [
            "0x1.0ea7374ddcaaep-29", "-0x1.5f36de92273c8p-25", "0x1.656e53a2c3163p-21",
            "-0x1.3ce86066074abp-17", "0x1.e42b0952a23cap-14", "-0x1.37403f63e4133p-10",
            "0x1.46d0429758e67p-7", "-0x1.1058377e2cde8p-4", "0x1.9884533d4365p-2",
        ],
        "gelu outer": [
            "0x1.26c61e42027f0p+2", "-0x1.00815d84df55ap+3", "0x1.a9a3f4dc3a102p-1",
            "0x1.b3e8a4a64b8c3p+2", "-0x1.3dd81dd460caap+2", "-0x1.5c86d8f2a1b54p-1",
            "0x1.8c6e97942d9d1p+1", "-0x1.fbfa8c8c35f33p+0", "-0x1.29f05d06734eap-3",
            "0x1.5014295e42637p+0", "-0x1.f55249399e7ffp-1", "-0x1.57502dceddf2bp-4",
            "0x1.783f92c8f1d6dp-1", "-0x1.f7a053ba14ffap-2", "-0x1.8ac936e6be060p-3",
            "0x1.0910848186725p-1", "-0x1.60b14219346dcp-3", "-0x1.6fa0a8a2170c9p-2",
            "0x1.66cfe706f8c1dp-2", "0x1.de85b255ea9dbp-3", "-0x1.ee74bec770762p-2",
            "-0x1.2892c22d90a5fp-2", "0x1.7dcde1ec2c975p-1", "0x1.6a32254ccf3afp+0",
            "0x1.f39aa0fbec14bp-3",
        ],
        "gelu tanh": [
            "0x1.65d25ep+4", "0x1.bb3db03fa9e4dp-21", "0x1.2444f2a4d8b4bp-4",
            "-0x1.6c843a29d1c7p-61",
        ],
    },
)  # fmt: skip


def of(x: Reals) -> Format:
    return BINARY64 if x.dtype == np.float64 else BINARY32


# ---- Parts ---------------------------------------------------------------------------------------


def fma(a: Any, b: Any, c: Any) -> Reals:
    wide = any(np.asarray(value).dtype == np.float64 for value in (a, b, c))
    return fma64(a, b, c) if wide else fma32(a, b, c)


def bits(x: Reals) -> Integers:
    return np.ascontiguousarray(x).view(of(x).integer)


def from_bits(pattern: Integers) -> Reals:
    return np.asarray(pattern).view(np.float64 if pattern.dtype == np.int64 else np.float32)


def sign(x: Reals) -> Integers:
    return bits(x) & np.iinfo(of(x).integer).min


def negative_abs(x: Reals) -> Reals:
    return from_bits(bits(x) | np.iinfo(of(x).integer).min)


def with_sign_of(magnitude: Reals, x: Reals) -> Reals:
    return from_bits(bits(magnitude) | sign(x))


def at_least(x: Reals, floor: Any) -> Reals:
    return np.where(x < floor, floor, x)


def at_most(x: Reals, ceiling: Any) -> Reals:
    return np.where(x > ceiling, ceiling, x)


def horner(coefficients: list[str], x: Reals) -> Reals:
    """The coefficient of the highest power comes first."""
    c = of(x)
    value = np.full_like(x, c(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = fma(value, x, c(coefficient))
    return value


def reduced(x: Reals, shift: int) -> tuple[Reals, Reals]:
    """x / ln 2 rounded to an integer, and the number with that, bias and shift in its low bits."""
    c = of(x)
    biased_rounder = c(1.5 * 2.0**c.fraction + (c.bias + shift))
    rounded = fma(x, c(c.log2_e), biased_rounder)
    return rounded - biased_rounder, rounded


def exponential(z: Reals, shift: int, z_low: Any = None) -> tuple[Reals, Reals]:
    """exp(z + z_low) = (1 + fraction) * scale * 2^-shift; returns fraction and scale."""
    c = of(z)
    ln2_high, ln2_low = map(c, c.ln2)
    n, rounded = reduced(z, shift)
    r = fma(n, -ln2_high, z)
    if z_low is None:
        r = fma(n, -ln2_low, r)
        fraction = fma(r * r, horner(c.polynomials["exp tail"], r), r)
    else:
        r_low = fma(n, -ln2_low, z_low)
        r_high, r = r, r + r_low
        r_rest = (r_high - r) + r_low
        fraction = r + fma(r * r, horner(c.polynomials["exp tail"], r), r_rest)
    return fraction, from_bits(bits(rounded) << c.fraction)


def shifted(z: Reals, z_low: Any = None) -> tuple[Reals, Reals, Any]:
    """An exponential whose scale reaches down to the subnormals, and what undoes its shift."""
    c = of(z)
    return *exponential(z, c.tail_shift, z_low), c(2.0**-c.tail_shift)


def times_sigmoid(
    x: Reals, negative: NDArray[np.bool_], fraction: Reals, scale: Reals, unshift: Any
) -> Reals:
    """x / (1 + exp(-z)), given exp(-|z|) and where z is negative."""
    one = of(x)(1)
    small = scale * unshift
    t = fma(small, fraction, small)
    denominator = one + t
    quotient = np.where(negative, t, x) / denominator
    rest = t - (denominator - one)
    y = fma(x, fma(quotient, rest, fraction), x)
    return np.where(negative, (fma(-y, quotient, y) * scale) * unshift, quotient)


# ---- Functions -----------------------------------------------------------------------------------


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
        leaky_relu, sqrt, rsqrt,
    )
}  # fmt: skip
