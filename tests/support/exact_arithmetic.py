"""Cases of exact operators that compute, select or compare: one operation an element.

The references are NumPy's, in the arithmetic type: float32 for half precision, whose result is
rounded once afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tests.support.exact_cases import FLOATS, FULL, Case, Run

Reference = Callable[[np.ndarray, np.ndarray], np.ndarray]
WITH_INTEGERS = (*FLOATS, torch.int64)
WHOLE_NUMBERS = (torch.int64, torch.bool)


@dataclass(frozen=True)
class Elementwise(Case):
    """An operator of one element of x and one of y, in tensors of any shape."""

    reference: Reference = np.add


def _one(function: Callable[[np.ndarray], np.ndarray]) -> Reference:
    return lambda x, y: function(x)


def _sign(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), 0, np.sign(x)).astype(x.dtype) + x.dtype.type(0)


def _signs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.signbit(np.where(np.isnan(x), 1, x))


def _leaky(slope: float) -> Reference:
    return lambda x, y: np.where(x > 0, x, x * x.dtype.type(slope))


def _clamp(low: float, high: float) -> Reference:
    # A bound replaces what is beyond it: a zero of either sign is not beyond a zero.
    def clamp(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        low_, high_ = x.dtype.type(low), x.dtype.type(high)
        return np.where(x < low_, low_, np.where(x > high_, high_, x))

    return clamp


INF = float("inf")
SLOPE = 0.15625  # which every dtype holds
BOTH: Run = lambda op, x, y: op(x, y)  # noqa: E731
ONE: Run = lambda op, x, y: op(x)  # noqa: E731

_ROUNDING = {"neg": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil}
_ROUNDING |= {"round": np.rint, "trunc": np.trunc}

ARITHMETIC = [
    *[
        Elementwise(name + suffix, BOTH, FLOATS, function)
        for suffix in ("", "_")
        for name, function in {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "div": np.divide,
        }.items()
    ],
    Elementwise("rsub", BOTH, FLOATS, lambda x, y: y - x),
    # A number is rounded to the arithmetic type first.
    Elementwise("add", lambda op, x, y: op(x, 0.7), FULL, lambda x, y: x + x.dtype.type(0.7)),
    Elementwise("sub", lambda op, x, y: op(x, 0.7), FULL, lambda x, y: x - x.dtype.type(0.7)),
    Elementwise("rsub", lambda op, x, y: op(x, 0.7), FULL, lambda x, y: x.dtype.type(0.7) - x),
    Elementwise("add_", lambda op, x, y: op(x, 0.7), FULL, lambda x, y: x + x.dtype.type(0.7)),
    # Products and quotients do so in half precision as well.
    *[
        Elementwise(
            name + suffix,
            lambda op, x, y, n=n: op(x, n),
            FLOATS,
            lambda x, y, f=f, n=n: f(x, x.dtype.type(n)),
        )
        for name, f in {"mul": np.multiply, "div": np.divide}.items()
        for suffix in ("", "_")
        for n in (0.7, -1e-6, 1e30)
    ],
    # One that half precision holds is a number like any other.
    Elementwise("add", lambda op, x, y: op(x, 3), FLOATS, lambda x, y: x + x.dtype.type(3)),
    Elementwise("sub", lambda op, x, y: op(x, 0.5), FLOATS, lambda x, y: x - x.dtype.type(0.5)),
    Elementwise("rsub", lambda op, x, y: op(x, 1), FLOATS, lambda x, y: x.dtype.type(1) - x),
    Elementwise("mul", lambda op, x, y: op(x, -5), FLOATS, lambda x, y: x * x.dtype.type(-5)),
    Elementwise("div", lambda op, x, y: op(x, 3), FLOATS, lambda x, y: x / x.dtype.type(3)),
    *[
        Elementwise(name, ONE, FLOATS, lambda x, y: x.dtype.type(1) / x)
        for name in ("reciprocal", "reciprocal_")
    ],
    *[
        Elementwise(name + suffix, ONE, FLOATS, _one(function))
        for suffix in ("", "_")
        for name, function in _ROUNDING.items()
    ],
    *[Elementwise(name, ONE, FLOATS, _one(_sign)) for name in ("sign", "sgn")],
    *[
        Elementwise(name, lambda op, x, y: op(x, 0.1), FULL, _leaky(0.1))
        for name in ("leaky_relu", "leaky_relu_")
    ],
    Elementwise(
        "prelu", lambda op, x, y: op(x, torch.tensor([SLOPE], dtype=x.dtype)), FLOATS, _leaky(SLOPE)
    ),
    Elementwise(
        "_prelu_kernel",
        lambda op, x, y: op(x, torch.tensor(SLOPE, dtype=x.dtype).view((1,) * x.ndim)),
        FLOATS,
        _leaky(SLOPE),
    ),
    *[Elementwise(name, ONE, FLOATS, _clamp(0.0, INF)) for name in ("relu", "relu_")],
    Elementwise("relu6", ONE, FLOATS, _clamp(0.0, 6.0)),
    *[
        Elementwise(name, lambda op, x, y: op(x, -1, 0.5), FLOATS, _clamp(-1, 0.5))
        for name in ("clamp", "clamp_", "hardtanh", "hardtanh_")
    ],
    *[
        Elementwise(name, lambda op, x, y: op(x, 0.0), FLOATS, _clamp(0.0, INF))
        for name in ("clamp_min", "clamp_min_")
    ],
    *[
        Elementwise(name, lambda op, x, y: op(x, -0.0), FLOATS, _clamp(-INF, -0.0))
        for name in ("clamp_max", "clamp_max_")
    ],
    *[
        Elementwise(
            name,
            lambda op, x, y: op(x, 0.5, -2),
            FLOATS,
            lambda x, y: np.where(x <= 0.5, x.dtype.type(-2), x),
        )
        for name in ("threshold", "threshold_")
    ],
    Elementwise(
        "hardshrink",
        lambda op, x, y: op(x, 0.5),
        FLOATS,
        lambda x, y: np.where((x >= -0.5) & (x <= 0.5), x.dtype.type(0), x),
    ),
    *[Elementwise(name, BOTH, FLOATS, np.copysign) for name in ("copysign", "copysign_")],
    Elementwise("copysign", lambda op, x, y: op(x, -1.0), FLOATS, _one(lambda x: -np.abs(x))),
    *[
        Elementwise(name, BOTH, FLOATS, lambda x, y: np.where(x == 0, y, (x > 0).astype(x.dtype)))
        for name in ("heaviside", "heaviside_")
    ],
    *[
        Elementwise(
            name,
            lambda op, x, y: op(x, 0.5, 2.0, -1.0),
            FLOATS,
            _one(lambda x: np.nan_to_num(x, nan=0.5, posinf=2.0, neginf=-1.0)),
        )
        for name in ("nan_to_num", "nan_to_num_")
    ],
    Elementwise("nan_to_num", ONE, FULL, _one(np.nan_to_num)),
]

_BOUNDARIES = (-2.5, -0.0, 0.0, 0.5, 0.5, 3.0)


def _places(right: bool) -> list[Case]:
    def boundaries(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(_BOUNDARIES, dtype=x.dtype)

    # Zeros of both signs are equal, and NaN comes after all numbers.
    side = "right" if right else "left"
    reference = _one(lambda x: np.searchsorted(np.array(_BOUNDARIES), x, side))
    return [
        Elementwise(
            "bucketize", lambda op, x, y: op(x, boundaries(x), right=right), FLOATS, reference
        ),
        Elementwise(
            "searchsorted", lambda op, x, y: op(boundaries(x), x, right=right), FLOATS, reference
        ),
    ]


_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
COMPARISONS = [
    *[Elementwise(name, BOTH, WITH_INTEGERS, f) for name, f in _COMPARISONS.items()],
    *[
        Elementwise(name, lambda op, x, y: op(x, 1), WITH_INTEGERS, lambda x, y, f=f: f(x, 1))
        for name, f in _COMPARISONS.items()
    ],
    Elementwise("isnan", ONE, FLOATS, _one(np.isnan)),
    Elementwise("isinf", ONE, FLOATS, _one(np.isinf)),
    Elementwise("isfinite", ONE, FLOATS, _one(np.isfinite)),
    Elementwise("isposinf", ONE, FLOATS, _one(np.isposinf)),
    Elementwise("isneginf", ONE, FLOATS, _one(np.isneginf)),
    Elementwise("signbit", lambda op, x, y: op(torch.where(x == x, x, 1)), FLOATS, _signs),
    *_places(right=False),
    *_places(right=True),
    Elementwise("logical_and", BOTH, WITH_INTEGERS, np.logical_and),
    Elementwise("logical_or", BOTH, WITH_INTEGERS, np.logical_or),
    Elementwise("logical_xor", BOTH, WITH_INTEGERS, np.logical_xor),
    Elementwise("logical_not", ONE, WITH_INTEGERS, _one(np.logical_not)),
    Elementwise("bitwise_and", BOTH, WHOLE_NUMBERS, np.bitwise_and),
    Elementwise("bitwise_or", BOTH, WHOLE_NUMBERS, np.bitwise_or),
    Elementwise("bitwise_xor", BOTH, WHOLE_NUMBERS, np.bitwise_xor),
    Elementwise("bitwise_not", ONE, WHOLE_NUMBERS, _one(np.bitwise_not)),
]


def _pool(*arguments: object) -> Run:
    return lambda op, x, y: op(x, *arguments)


def _pool1d(*arguments: object) -> Run:
    return lambda op, x, y: op(x.flatten(2), *arguments)


def _pool3d(*arguments: object) -> Run:
    return lambda op, x, y: op(x.unsqueeze(1), *arguments)


SELECTIONS = (
    [
        Case(name, run, FLOATS)
        for name, run in {
            "max_pool1d": _pool1d(3, 2, 1),
            "max_pool2d": _pool(3, 2, 1),
            "max_pool3d": _pool3d(3, 2, 1),
            "max_pool2d_with_indices": _pool(3, 2, 1),
            "max_pool3d_with_indices": _pool3d(3, 2, 1),
            "adaptive_max_pool1d": _pool1d(3),
            "adaptive_max_pool2d": _pool((3, 2)),
            "adaptive_max_pool3d": _pool3d((2, 3, 2)),
        }.items()
    ]
    + [
        Case(name, run, WITH_INTEGERS)
        for name in ("max", "min", "argmax", "argmin")
        for run in (
            lambda op, x, y: op(x, 1),
            lambda op, x, y: op(x, -1),
            lambda op, x, y: op(x.flatten(1), 1),
        )
    ]
    + [
        Case(name, run, (*WITH_INTEGERS, torch.bool))
        for name in ("any", "all", "count_nonzero")
        for run in (lambda op, x, y: op(x, 1), lambda op, x, y: op(x.flatten(1), 1))
    ]
    + [
        Case("sort", lambda op, x, y, d=d: op(x, stable=True, dim=1, descending=d), WHOLE_NUMBERS)
        for d in (False, True)
    ]
)

# Results without a batch: (operator's name, call, what it must give).
Whole = tuple[str, Callable[..., object], Callable[[np.ndarray], object]]
WHOLE: Sequence[Whole] = [
    ("argmax", lambda op, x: op(x), lambda x: int(x.argmax())),
    ("argmin", lambda op, x: op(x), lambda x: int(x.argmin())),
    ("any", lambda op, x: op(x), lambda x: bool(x.any())),
    ("all", lambda op, x: op(x), lambda x: bool(x.all())),
    ("equal", lambda op, x: op(x, x.clone()), lambda x: not np.isnan(x).any()),
    ("is_nonzero", lambda op, x: op(x.flatten()[:1]), lambda x: bool(x.flat[0] != 0)),
    ("nonzero", lambda op, x: op(x).flatten().tolist(), lambda x: x.nonzero()[0].tolist()),
    ("argwhere", lambda op, x: op(x).flatten().tolist(), lambda x: x.nonzero()[0].tolist()),
    ("nonzero_numpy", lambda op, x: op(x)[0].tolist(), lambda x: x.nonzero()[0].tolist()),
    (
        "_nested_tensor_from_mask_left_aligned",
        lambda op, x: op(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)),
        lambda x: True,
    ),
    ("item", lambda op, x: op(x.flatten()[5:6]), lambda x: float(x.flat[5])),
    ("_local_scalar_dense", lambda op, x: op(x.flatten()[5:6]), lambda x: float(x.flat[5])),
]

# Tensors made of numbers: (call, the value that fills them, None where they have none yet).
CREATION = {
    "empty": (lambda op, x: op(x.shape, dtype=x.dtype), None),
    "empty_like": (lambda op, x: op(x), None),
    "empty_strided": (lambda op, x: op(x.shape, x.stride(), dtype=x.dtype), None),
    "new_empty": (lambda op, x: op(x, x.shape), None),
    "new_empty_strided": (lambda op, x: op(x, x.shape, x.stride()), None),
    "zeros": (lambda op, x: op(x.shape, dtype=x.dtype), 0.0),
    "zeros_like": (lambda op, x: op(x), 0.0),
    "new_zeros": (lambda op, x: op(x, x.shape), 0.0),
    "zero_": (lambda op, x: op(x), 0.0),
    "ones": (lambda op, x: op(x.shape, dtype=x.dtype), 1.0),
    "ones_like": (lambda op, x: op(x), 1.0),
    "new_ones": (lambda op, x: op(x, x.shape), 1.0),
    "full": (lambda op, x: op(x.shape, 0.1, dtype=x.dtype), 0.1),
    "full_like": (lambda op, x: op(x, 0.1), 0.1),
    "new_full": (lambda op, x: op(x, x.shape, 0.1), 0.1),
    "fill": (lambda op, x: op(x, 0.1), 0.1),
    "fill_": (lambda op, x: op(x, 0.1), 0.1),
    "scalar_tensor": (lambda op, x: op(0.1, dtype=x.dtype), 0.1),
}

# From each dtype to those that hold its values, or to which they are rounded once.
CONVERTED = {
    torch.float16: (torch.bool, torch.float16, torch.float32, torch.float64),
    torch.bfloat16: (torch.bool, torch.bfloat16, torch.float32, torch.float64),
    torch.float32: (torch.bool, torch.float32, torch.float64, torch.float16, torch.bfloat16),
    torch.float64: (torch.bool, torch.float64, torch.float32),
    torch.int64: (torch.int64, torch.float32, torch.float64),
    torch.int32: (torch.int64, torch.float32, torch.float64),
    torch.uint8: (torch.int64, torch.int16, torch.float32, torch.float64),
    torch.bool: (torch.int64, *FLOATS),
}
CONVERSIONS: dict[str, Callable[..., torch.Tensor]] = {
    "_to_copy": lambda op, x, dtype: op(x, dtype=dtype),
    "to": lambda op, x, dtype: op(x, dtype),
    "type_as": lambda op, x, dtype: op(x, torch.empty(1, dtype=dtype)),
    "copy_": lambda op, x, dtype: op(torch.empty(x.shape, dtype=dtype), x),
    "copy": lambda op, x, dtype: op(torch.empty(x.shape, dtype=dtype), x),
}
