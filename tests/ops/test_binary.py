"""Elementwise functions of two tensors: docs/functions.md's expressions, within 2 ulp or exact."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

import bninv
import bninv.functional as F
from bninv.operators import binary
from tests.support import reference_dtypes
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    any_bits,
    assert_bits,
    assert_equals_at_each_level,
    expansions,
    layouts,
    normal,
)
from tests.support.reference_binary import BINARY

NAMES = [op.name for op in binary.OPERATORS]
DIVISIONS = ["fmod", "remainder", "floor_divide", "trunc_divide"]
WITHIN_2_ULP = ["pow", "atan2", "hypot"]
STOCK = {
    **{name: getattr(torch, name) for name in (*WITHIN_2_ULP, "fmod", "remainder", "floor_divide")},
    "trunc_divide": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
}
names = pytest.mark.parametrize("name", NAMES)
floating = pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)


def reference(name: str, x: Tensor, y: Tensor) -> Tensor:
    values = [reference_dtypes.widened(t, t.dtype) for t in torch.broadcast_tensors(x, y)]
    return reference_dtypes.rounded(np.asarray(BINARY[name](*values)), x.dtype)


def binary_case(name: str, shape: tuple[int, ...]) -> Case:
    """Beside one sample's worth of numbers, of either sign."""
    other = normal("other", 1, *shape[1:]) * 3
    return Case(
        f"{name} of {shape}",
        shape,
        run=lambda x: getattr(F, name)(x, other),
        stock=lambda x: STOCK[name](x, other),
        reference=lambda x: BINARY[name](
            np.ascontiguousarray(x), np.broadcast_to(other.numpy(), x.shape).copy()
        ),
    )


class TestBinary(ContractTests):
    CASES = [binary_case(name, shape) for name in NAMES for shape in ((3, 67), (2, 5, 3, 7))]


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, INF, -INF, NAN, 1e-45, -1e-45, 3e38]
SPECIAL += [float(2**24 + 2), float(2**23 + 1), -float(2**23 + 1), 1 - 2.0**-24, 1 + 2.0**-23]


@names
@floating
def test_special_values_and_all_bits(name: str, dtype: torch.dtype) -> None:
    pairs = torch.tensor(list(itertools.product(SPECIAL, repeat=2))).to(dtype)
    near_1 = (1 + normal("near 1", 200) * 0.01).to(dtype)
    x = torch.cat([pairs[:, 0], any_bits("x", (150,), dtype), near_1])
    y = torch.cat([pairs[:, 1], any_bits("y", (150,), dtype), (normal("z", 200) * 300).to(dtype)])
    expected = reference(name, x, y)
    assert_equals_at_each_level(lambda: getattr(F, name)(x, y), expected)
    assert_equals_at_each_level(lambda: getattr(F, name)(x[3:], y[3:]), expected[3:], "a tail")


@pytest.mark.parametrize("name", WITHIN_2_ULP)
def test_special_values_are_those_of_c(name: str) -> None:
    function = {"pow": math.pow, "atan2": math.atan2, "hypot": math.hypot}[name]
    for x, y in itertools.product([*SPECIAL, 7.0, -7.0, 1e300, -1e300], repeat=2):
        a, b = (torch.tensor([value], dtype=torch.float64) for value in (x, y))
        actual = getattr(F, name)(a, b).item()
        try:
            expected = function(x, y)
        except ValueError:  # Python's errors: a negative base, and a pole
            expected = INF if x == 0 else NAN
            expected = math.copysign(INF, x) if x == 0 and y % 2 == 1 else expected
        except OverflowError:
            expected = -INF if x < 0 and y % 2 == 1 else INF
        close = math.isclose(actual, expected, rel_tol=1e-15) or actual == expected
        same_sign = math.copysign(1, actual) == math.copysign(1, expected)
        assert (math.isnan(actual) and math.isnan(expected)) or (close and same_sign), (x, y)


def operands(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Results from the least to the greatest number, and bases near 1 under large exponents."""
    base = torch.cat([normal("b", 300).abs(), 1 + normal("b", 150) * 1e-3, normal("c", 150).abs()])
    power = torch.cat([normal("p", 300), normal("p", 150) * 3e4, normal("p", 150) * 60])
    return base.to(dtype), power.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", WITHIN_2_ULP)
def test_error_is_at_most_2_ulp(name: str, dtype: torch.dtype) -> None:
    function = {"pow": mpmath.power, "atan2": mpmath.atan2, "hypot": mpmath.hypot}[name]
    x, y = operands(dtype)
    digits, least = (24, -149) if dtype == torch.float32 else (53, -1074)
    with mpmath.workprec(200):
        for a, b, actual in zip(x.tolist(), y.tolist(), getattr(F, name)(x, y).tolist()):
            exact = function(mpmath.mpf(a), mpmath.mpf(b))
            if math.isinf(actual):
                assert exact > torch.finfo(dtype).max, (a, b)
                continue
            ulp = mpmath.ldexp(1, max(mpmath.frexp(exact)[1] - digits, least))
            assert abs(actual - exact) <= 2 * ulp, (a, b)


def test_powers_that_a_type_holds_are_exact() -> None:
    base = torch.tensor([2.0, 3, 5, -3, 10, 0.5, 2, 2, 7])
    exponent = torch.tensor([10.0, 5, 7, 5, 10, 20, -149, 127, 8])
    expected = [b**e for b, e in zip(base.tolist(), exponent.tolist(), strict=True)]
    assert_bits(F.pow(base, exponent), torch.tensor(expected, dtype=torch.float64).float())
    assert F.pow(base.double(), exponent.double()).tolist() == expected


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_divisions_are_those_of_stock(name: str, dtype: torch.dtype) -> None:
    """Bit by bit, as long as the quotient is finite: stock's remainder is NaN beyond."""
    x, y = any_bits("x", (999,), dtype), any_bits("y", (999,), dtype)
    x[:500], y[:500] = normal("x", 500, dtype=dtype) * 50, normal("y", 500, dtype=dtype)
    finite = (x / y).isfinite()
    assert_bits(getattr(F, name)(x, y)[finite], STOCK[name](x, y)[finite])


def test_a_remainder_exists_where_the_quotient_overflows() -> None:
    x = torch.tensor([1e300, -1e300], dtype=torch.float64)
    y = torch.tensor([1e-10, 3e-10], dtype=torch.float64)
    expected = [math.fmod(1e300, 1e-10), math.fmod(-1e300, 3e-10) + 3e-10]
    assert F.remainder(x, y).tolist() == expected


@names
def test_layouts_of_both_operands_are_pytorchs(name: str) -> None:
    x, y = normal("x", 3, 4, 5, 6).abs(), normal("y", 3, 4, 5, 6)
    expected = getattr(F, name)(x, y)
    for (first, a), (second, b) in itertools.product([*layouts(x)], [*layouts(y)][::3]):
        result = getattr(F, name)(a, b)
        assert_bits(result, expected, f"{first}, {second}")
        assert result.stride() == (a + b).stride(), f"{first}, {second}"


def test_broadcasting() -> None:
    x, y = normal("x", 4, 1, 5).abs(), normal("y", 3, 1)
    expected = F.pow(x.expand(4, 3, 5).contiguous(), y.expand(4, 3, 5).contiguous())
    for a, b in ((x, y), (x.permute(2, 1, 0).contiguous().permute(2, 1, 0), y)):
        assert_equals_at_each_level(lambda a=a, b=b: F.pow(a, b), expected)
        assert F.pow(a, b).stride() == (a + b).stride()
    for _, view in expansions(normal("z", 4, 3, 5).abs()):
        assert_bits(F.pow(view, y), F.pow(view.contiguous(), y.expand(4, 3, 5).contiguous()))
    assert F.pow(x[:0], y).shape == (0, 3, 5)
    with pytest.raises(ValueError, match=r"\bexponent\b"):
        F.pow(x, normal("w", 7))


@floating
def test_numbers_are_rounded_to_the_arithmetic_type(dtype: torch.dtype) -> None:
    x = normal("x", 67).abs().to(dtype)
    wide = x.float() if dtype.itemsize == 2 else x
    for number in (0.3, 1 / 3, -2, 7):
        exponent = torch.full_like(wide, number)
        for name in ("pow", "floor_divide"):
            expected = getattr(F, name)(wide, exponent).to(dtype)
            assert_bits(getattr(F, name)(x, number), expected, f"{name} {number}")


# ---- PyTorch's spellings -------------------------------------------------------------------------

X, Y, WHOLE = normal("x", 3, 5).abs(), normal("y", 3, 5), torch.arange(1, 6)
FLOAT = torch.get_default_dtype()
SPELLINGS: dict[str, tuple[Any, Any]] = {
    "x ** y": (lambda: X**Y, lambda: F.pow(X, Y)),
    "x ** 0.25": (lambda: X**0.25, lambda: F.pow(X, 0.25)),
    "2 ** x": (lambda: 2**X, lambda: F.pow(torch.tensor(2.0), X)),
    "10000 ** integers / 5": (
        lambda: 10000 ** (WHOLE / 5),
        lambda: F.pow(torch.tensor(10000.0), WHOLE / 5),
    ),
    "pow of a number": (lambda: torch.pow(0.5, X), lambda: F.pow(torch.tensor(0.5), X)),
    "pow of integers": (lambda: torch.pow(2.0, WHOLE), lambda: torch.tensor([2.0, 4, 8, 16, 32])),
    "an integer exponent": (lambda: X[0].pow(WHOLE), lambda: F.pow(X[0], WHOLE.float())),
    "pow_": (lambda: X.clone().pow_(1.5), lambda: F.pow(X, 1.5)),
    "x **= y": (lambda: X.clone().__ipow__(Y), lambda: F.pow(X, Y)),
    "a tensor without dimensions": (
        lambda: X.half() ** torch.tensor(0.3),
        lambda: F.pow(X.half().float(), torch.tensor(0.3)).half(),
    ),
    "half and float": (lambda: X.half() ** Y, lambda: F.pow(X.half().float(), Y)),
    "float_power": (
        lambda: torch.float_power(X, 0.3),
        lambda: F.pow(X.double(), 0.3),
    ),
    "atan2": (lambda: torch.atan2(Y, X), lambda: F.atan2(Y, X)),
    "arctan2": (lambda: torch.arctan2(Y, X), lambda: F.atan2(Y, X)),
    "hypot": (lambda: Y.hypot(X), lambda: F.hypot(Y, X)),
    "fmod": (lambda: torch.fmod(Y, 0.3), lambda: F.fmod(Y, 0.3)),
    "remainder": (lambda: Y.remainder(X), lambda: F.remainder(Y, X)),
    "y % 0.3": (lambda: Y % 0.3, lambda: F.remainder(Y, 0.3)),
    "0.3 % y": (lambda: 0.3 % Y, lambda: F.remainder(torch.tensor(0.3), Y)),
    "y // 0.3": (lambda: Y // 0.3, lambda: F.floor_divide(Y, 0.3)),
    "3 // y": (lambda: 3 // Y, lambda: F.floor_divide(torch.tensor(3.0), Y)),
    "y //= x": (lambda: Y.clone().floor_divide_(X), lambda: F.floor_divide(Y, X)),
    "y %= x": (lambda: Y.clone().remainder_(X), lambda: F.remainder(Y, X)),
    "div down": (
        lambda: torch.div(Y, 0.3, rounding_mode="floor"),
        lambda: F.floor_divide(Y, 0.3),
    ),
    "div toward zero": (
        lambda: Y.clone().div_(X, rounding_mode="trunc"),
        lambda: F.trunc_divide(Y, X),
    ),
    "integers by a float": (
        lambda: WHOLE // 0.3,
        lambda: F.floor_divide(WHOLE.float(), 0.3),
    ),
    "integers": (lambda: WHOLE // 2 + WHOLE % 3, lambda: torch.tensor([1, 3, 1, 3, 4])),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(spelling: str) -> None:
    call, expected = SPELLINGS[spelling]
    with torch.no_grad(), bninv.invariant(strict=True) as scope:
        result = call()
    assert scope.uncovered == []
    assert (result.dtype, result.stride()) == (call().dtype, call().stride())
    if result.is_floating_point():
        assert_bits(result, expected())
    else:
        assert torch.equal(result, expected())


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, 1, 2.0])
def test_some_exponents_are_products_and_roots(exponent: float) -> None:
    """What they were before there was a pow: the exponent alone decides."""
    composed = {
        2: lambda x: x * x,
        3: lambda x: (x * x) * x,
        0.5: F.sqrt,
        -0.5: F.rsqrt,
        -1: torch.reciprocal,
        1: torch.clone,
    }[exponent]
    with torch.no_grad(), bninv.invariant(strict=True):
        assert_bits(X**exponent, composed(X))
        assert_bits(X.clone().pow_(exponent), composed(X))


def test_promotion_is_pytorchs() -> None:
    values = [2, 2.5, True, torch.tensor(2), torch.tensor(2.5), torch.tensor([2.5]).half()]
    values += [torch.tensor([2]), torch.tensor(2.5).double(), torch.tensor([True])]
    values += [torch.tensor([2.5]).bfloat16(), torch.tensor([2.5]), torch.tensor(2.5).half()]
    for pair in itertools.product(values, repeat=2):
        if any(isinstance(value, Tensor) for value in pair):
            assert binary.result_dtype(*pair) == torch.result_type(*pair), pair
