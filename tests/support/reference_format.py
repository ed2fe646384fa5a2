"""What R6's functions in NumPy are written with: the constants of each arithmetic type, and parts
that several functions have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
