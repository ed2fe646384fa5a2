"""R6 in NumPy, continued: sinh and cosh, which both formats have from binary64."""

from __future__ import annotations

import numpy as np

from tests.support.reference_binary64 import horner, in_binary64
from tests.support.reference_fma64 import F64, fma64
from tests.support.reference_format import at_most, exponential

SINH = [
    "0x1.b412579180c3cp-41", "0x1.611cb2cbad2e9p-33", "0x1.ae6460fbb232dp-26",
    "0x1.71de3a4e14331p-19", "0x1.a01a01a01ee7ap-13", "0x1.11111111110fdp-7",
    "0x1.5555555555555p-3",
]  # fmt: skip


def eighth_of_exp(x: F64) -> tuple[F64, F64]:
    fraction, scale = exponential(at_most(x, 711.0), -3, np.float64(0))
    high = fma64(scale, fraction, scale)
    return high, fma64(scale, fraction, scale - high)


@in_binary64
def sinh(x: F64) -> F64:
    square = x * x
    inner = fma64(square * x, horner(SINH, square), x)
    high, low = eighth_of_exp(np.abs(x))
    outer = np.copysign((high + (low - 2.0**-6 / high)) * 4.0, x)
    return np.where(np.abs(x) < 1, np.where(x == 0, x, inner), outer)


@in_binary64
def cosh(x: F64) -> F64:
    high, low = eighth_of_exp(np.abs(x))
    return (high + (low + 2.0**-6 / high)) * 4.0
