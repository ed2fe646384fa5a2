"""What R6's functions of binary64, which binary32 rounds, are written with in NumPy.

Arguments and results inside are binary64; `in_binary64` makes a function of either format of one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tests.support.reference_fma64 import F64, fma64
from tests.support.reference_format import Reals


def in_binary64(function: Callable[..., F64]) -> Callable[..., Reals]:
    """Of binary32 numbers: widened, computed in binary64 and rounded once."""

    @wraps(function)
    def wide(*arguments: Reals) -> Reals:
        arguments = tuple(np.asarray(x) for x in arguments)
        doubles = all(x.dtype == np.float64 for x in arguments)
        with np.errstate(all="ignore"):
            y = function(*(x.astype(np.float64) for x in arguments))
            return y if doubles else y.astype(np.float32)

    return wide


def horner(coefficients: list[str], x: F64) -> F64:
    value = np.full_like(x, float.fromhex(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = fma64(value, x, float.fromhex(coefficient))
    return value


def fast_two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    total = a + b
    return total, (a - total) + b


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    return a * b, fma64(a, b, -(a * b))
