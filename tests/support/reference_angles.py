"""R6 in NumPy, continued: atan, atan2 and hypot, which both formats have from binary64."""

from __future__ import annotations

import numpy as np

from tests.support.reference_binary64 import fast_two_sum, horner, in_binary64
from tests.support.reference_fma64 import F64, fma64, two_sum

ATAN = [
    "0x1.87da18e861544p-7", "-0x1.bed97f0de4102p-6", "0x1.3104d13506c3dp-5",
    "-0x1.5fc9004cb5437p-5", "0x1.857f934965bd4p-5", "-0x1.af19a6c9bd78ep-5",
    "0x1.e1e0de6848e02p-5", "-0x1.11110ad464dfdp-4", "0x1.3b13b106c8c33p-4",
    "-0x1.745d1744b4a25p-4", "0x1.c71c71c718ce8p-4", "-0x1.2492492492461p-3",
    "0x1.9999999999999p-3", "-0x1.5555555555555p-2",
]  # fmt: skip


def angle_of(y: F64, x: F64) -> F64:
    adjacent = np.abs(x)
    steep = y > adjacent
    lesser, greater = np.where(steep, adjacent, y), np.where(steep, y, adjacent)
    beside = np.where(lesser < np.inf, 0.0, 1.0)
    lesser, greater = (
        np.where(greater < np.inf, lesser, beside),
        np.where(greater < np.inf, greater, 1.0),
    )
    greater = np.where(greater == 0, 1.0, greater)
    scale = np.where(greater > 2.0**1000, 2.0**-30, 1.0)
    lesser, greater = lesser * scale, greater * scale

    wide = lesser > greater * float.fromhex("0x1.a827999fcef34p-2")
    total, total_low = fast_two_sum(greater, lesser)
    difference, difference_low = two_sum(lesser, -greater)
    over, over_low = np.where(wide, difference, lesser), np.where(wide, difference_low, 0.0)
    under, under_low = np.where(wide, total, greater), np.where(wide, total_low, 0.0)
    t = over / under
    t_low = ((fma64(-t, under, over) + over_low) - t * under_low) / under
    square = t * t
    rest = fma64(t * square, horner(ATAN, square), t_low / (1.0 + square))
    angle, angle_low = fast_two_sum(t, rest)
    quarters, sign = np.where(wide, 1.0, 0.0), np.ones_like(t)
    quarters, sign = np.where(steep, 2.0 - quarters, quarters), np.where(steep, -sign, sign)
    behind = np.signbit(x)
    quarters, sign = np.where(behind, 4.0 - quarters, quarters), np.where(behind, -sign, sign)
    quarter, quarter_low = map(float.fromhex, ("0x1.921fb54442d18p-1", "0x1.1a62633145c07p-55"))
    high, low = fast_two_sum(quarters * quarter, sign * angle)
    return high + (fma64(quarters, quarter_low, sign * angle_low) + low)


@in_binary64
def atan2(y: F64, x: F64) -> F64:
    angle = np.copysign(angle_of(np.abs(y), x), y)
    return np.where(np.isnan(x) | np.isnan(y), np.nan, angle)


@in_binary64
def atan(x: F64) -> F64:
    return np.where(np.isnan(x), x, np.copysign(angle_of(np.abs(x), np.ones_like(x)), x))


@in_binary64
def hypot(x: F64, y: F64) -> F64:
    x, y = np.abs(x), np.abs(y)
    greater, lesser = np.where(x > y, x, y), np.where(x > y, y, x)
    scale = np.where(greater > 2.0**500, 2.0**-600, 1.0)
    scale = np.where(greater < 2.0**-400, 2.0**600, scale)
    greater, lesser = greater * scale, lesser * scale
    root = np.sqrt(fma64(greater, greater, lesser * lesser)) * (1.0 / scale)
    root = np.where(np.isnan(x) | np.isnan(y), np.nan, root)
    return np.where(np.isinf(x) | np.isinf(y), np.inf, root)
