"""Elementwise functions: the expressions of docs/functions.md, within 2 ulp of the exact value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import bninv
import bninv.functional as F
from bninv.operators import unary
from tests.support import reference_functions
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    normal,
    with_specials,
)


def stock(name: str) -> Callable[..., Tensor]:
    function: Callable[..., Tensor] = getattr(torch.nn.functional, name, None) or getattr(
        torch, name
    )
    return function


# selu's scales, rounded to the arithmetic type as all parameters are.
SELU = [float(np.float32(s)) for s in (1.0507009873554805, 1.6732632423543773 * 1.0507009873554805)]

# Each function with its options and its exact value in binary64: PyTorch's, where that is one.
EXACT: dict[str, tuple[str, dict, Callable[[Tensor], Tensor]]] = {
    **{op.name: (op.name, {}, stock(op.name)) for op in unary.OPERATORS if op.name != "gelu"},
    "leaky_relu": (
        "leaky_relu",
        {},
        lambda x: torch.where(x > 0, x, x * float(np.float32(0.01))),
    ),
    "celu": ("celu", {"alpha": 0.5}, lambda x: torch.nn.functional.celu(x, 0.5)),
    "selu": ("selu", {}, lambda x: torch.where(x > 0, x * SELU[0], torch.expm1(x) * SELU[1])),
    "softplus, beta": (
        "softplus",
        {"beta": 0.5, "threshold": 7},
        lambda x: torch.nn.functional.softplus(x, 0.5, 7),
    ),
    "leaky_relu, negative slope": (
        "leaky_relu",
        {"negative_slope": -0.3},
        lambda x: torch.where(x > 0, x, x * float(np.float32(-0.3))),
    ),
    # 1 + erf would cancel where erfc does not, and so would 1 + tanh.
    "gelu": ("gelu", {}, lambda x: x * 0.5 * torch.special.erfc(-x / math.sqrt(2))),
    "gelu, tanh": (
        "gelu",
        {"approximate": "tanh"},
        lambda x: x / (1 + torch.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
}
SHAPES = [(3, 1), (5, 67), (2, 19, 5, 7), (3, 4, 5, 2, 3), (3, 33, 1, 1), (3, 40, 61)]


def activation_case(label: str, shape: tuple[int, ...]) -> Case:
    name, options, _ = EXACT[label]
    function = reference_functions.FUNCTIONS[name]
    return Case(
        f"{label} of {shape}",
        shape,
        run=lambda x: getattr(F, name)(x, **options),
        # Of logsigmoid stock's result is contiguous on the CPU, and laid out as the input on CUDA.
        stock=lambda x: (
            torch.empty_like(x).copy_(stock(name)(x))
            if name == "logsigmoid"
            else stock(name)(x, **options)
        ),
        reference=lambda x: function(x, **options),
    )


class TestActivations(ContractTests):
    CASES = [activation_case(label, shape) for label in EXACT for shape in SHAPES]


def every_nth_float(step: int) -> Tensor:
    """Bit patterns of both signs, all exponents, NaN and infinity included."""
    patterns = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32)
    return torch.from_numpy(patterns.view(np.float32))


def dense(low: float, high: float, count: int) -> Tensor:
    return torch.from_numpy(np.linspace(low, high, count).astype(np.float32))


@pytest.mark.parametrize("label", EXACT)
def test_equals_reference_over_all_exponents(label: str) -> None:
    name, options, _ = EXACT[label]
    x = torch.cat([every_nth_float(20011), dense(-20, 20, 100003), dense(-110, 110, 20011)])
    x = x[::7] if name in ("sin", "cos", "tan") else x  # integers, one by one
    expected = torch.from_numpy(reference_functions.FUNCTIONS[name](x.numpy(), **options))
    assert_equals_at_each_level(lambda: getattr(F, name)(x, **options), expected, label)


@pytest.mark.parametrize("label", EXACT)
def test_error_is_at_most_2_ulp(label: str) -> None:
    name, options, exact = EXACT[label]
    x = torch.cat([every_nth_float(1009), dense(-20, 20, 1000003), dense(-110, 110, 1000003)])
    x = x[x.isfinite()]
    expected = exact(x.double()).numpy()
    actual = getattr(F, name)(x, **options).numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        finite = np.isfinite(expected.astype(np.float32))
    assert (np.isfinite(actual) == finite).all()
    expected, actual, x = expected[finite], actual[finite], x[torch.from_numpy(finite)]
    exponent = np.maximum(np.frexp(expected)[1] - 1, -126)
    ulp = np.ldexp(1.0, exponent - 23)
    error = np.abs(actual - expected) / ulp
    worst = int(error.argmax())
    assert error[worst] <= 2, f"{error[worst]:.3f} ulp at {x[worst].item().hex()}"


def every_exponent(count: int) -> Tensor:
    """Of binary64: random bit patterns, and numbers where the functions bend."""
    patterns = np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)
    near = [normal(scale, count).double() * scale for scale in (0.1, 1, 8, 300)]
    return torch.cat([torch.from_numpy(patterns.view(np.float64)), *near])


@pytest.mark.parametrize("label", EXACT)
def test_equals_reference_in_binary64(label: str) -> None:
    name, options, _ = EXACT[label]
    x = every_exponent(2000)
    expected = torch.from_numpy(reference_functions.FUNCTIONS[name](x.numpy(), **options))
    assert_equals_at_each_level(lambda: getattr(F, name)(x, **options), expected, label)


def ulps64(actual: Tensor, expected: NDArray[np.longdouble]) -> NDArray[np.float64]:
    """Errors in units of binary64 at the expected value."""
    exponent = np.maximum(np.frexp(expected)[1] - 1, -1022)
    return (np.abs(actual.numpy() - expected) / np.ldexp(np.longdouble(1), exponent - 52)).astype(
        np.float64
    )


# Of NumPy's functions of 64 significant bits: what can be written without cancellation.
LONGER: dict[str, Callable[[NDArray[np.longdouble]], NDArray[np.longdouble]]] = {
    "tanh": np.tanh,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "logsigmoid": lambda x: np.minimum(x, 0) - np.log1p(np.exp(-abs(x))),
    "softplus": lambda x: np.where(x > 20, x, np.log1p(np.exp(x))),
    "sigmoid": lambda x: np.where(x < 0, np.exp(-abs(x)), 1) / (1 + np.exp(-abs(x))),
    "silu": lambda x: x * LONGER["sigmoid"](x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no longer arithmetic here")
@pytest.mark.parametrize("name", LONGER)
def test_error_in_binary64_is_at_most_2_ulp(name: str) -> None:
    x = torch.cat([normal(scale, 100_000).double() * scale for scale in (0.1, 1, 8, 200)])
    with np.errstate(over="ignore"):
        expected = LONGER[name](x.numpy().astype(np.longdouble))
        finite = np.isfinite(expected.astype(np.float64))
    x, expected = x[torch.from_numpy(finite)], expected[finite]
    error = ulps64(getattr(F, name)(x), expected)
    worst = int(error.argmax())
    assert error[worst] <= 2, f"{error[worst]:.3f} ulp at {x[worst].item().hex()}"


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no longer arithmetic here")
@pytest.mark.parametrize("name", ["log", "log1p", "log2", "log10"])
def test_error_of_logarithms_in_binary64_is_at_most_2_ulp(name: str) -> None:
    near_1, other = normal("x", 100_000).double(), normal("y", 100_000).double().abs()
    x = torch.cat([near_1 * 0.1 + (name != "log1p"), other, other * 1e300, other * 1e-300])
    error = ulps64(getattr(F, name)(x), getattr(np, name)(x.numpy().astype(np.longdouble)))
    worst = int(error.argmax())
    assert error[worst] <= 2, f"{error[worst]:.3f} ulp at {x[worst].item().hex()}"


# Doubles nearest to multiples of pi/2, of all and of those below 2^30 (Muller et al., Handbook of
# Floating-Point Arithmetic), and the greatest.
NEAR_HALF_PI = [6381956970095103 * 2.0**797, 1e9 * math.pi, math.pi / 2, math.pi, 1.797e308]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_of_any_size_are_reduced_exactly(name: str) -> None:
    """Within 1 ulp of the value by 1300 bits, and NaN only of infinities."""
    exponents = normal("exponents", 300).double().abs() * 400 - 30
    x = torch.cat([torch.exp2(exponents), normal("x", 300).double() * 1e5])
    x = torch.cat([x, -x, torch.tensor([*NEAR_HALF_PI, 2.0**30], dtype=torch.float64)])
    x = x[x.isfinite()]
    with mpmath.workprec(1300):
        exact = [getattr(mpmath, name)(value) for value in x.tolist()]
        for value, expected, actual in zip(x, exact, getattr(F, name)(x).tolist(), strict=True):
            ulp = mpmath.ldexp(1, max(mpmath.frexp(expected)[1] - 53, -1074))
            assert abs(actual - expected) <= ulp, value.item().hex()
    infinite = torch.tensor([INF, -INF, NAN, -0.0])
    assert getattr(F, name)(infinite)[:3].isnan().all()
    assert_bits(getattr(F, name)(infinite)[3:], getattr(torch, name)(infinite)[3:])


def test_exact_powers_of_two() -> None:
    for dtype, least, most in ((torch.float32, -149, 127), (torch.float64, -1074, 1023)):
        n = torch.arange(least, most + 1, dtype=torch.float64)
        powers = torch.ldexp(torch.ones(()).double(), n).to(dtype)
        assert_bits(F.exp2(n.to(dtype)), powers)
        assert_bits(F.log2(powers), n.to(dtype))


@pytest.mark.parametrize("label", EXACT)
def test_no_element_knows_where_in_a_vector_it_stands(label: str) -> None:
    name, options, _ = EXACT[label]
    function = getattr(F, name)
    x = with_specials(normal("x", 131), share=0.2)
    for _, whole in at_each_level(lambda: function(x, **options)):
        for start in (0, 1, 5):
            for length in (*range(1, 70), 126):
                part = function(x[start : start + length], **options)
                assert_bits(part, whole[start : start + length], f"{length} from {start}")


def test_relu_of_special_values() -> None:
    x = torch.tensor([0.0, -0.0, NAN, INF, -INF, 1e-45, -1e-45, 7.0])
    relu = torch.tensor([0.0, 0.0, NAN, INF, 0.0, 1e-45, 0.0, 7.0])
    relu6 = torch.tensor([0.0, 0.0, NAN, 6.0, 0.0, 1e-45, 0.0, 6.0])
    for view in (x, x.repeat(9)[::3].contiguous()[:8].copy_(x)):
        assert_equals_at_each_level(lambda v=view: F.relu(v), relu)
        assert_equals_at_each_level(lambda v=view: F.relu6(v), relu6)


@pytest.mark.parametrize("label", EXACT)
def test_in_place(label: str) -> None:
    name, options, _ = EXACT[label]
    function = getattr(F, name)
    x = with_specials(normal("x", 3, 5, 4, 7))
    expected = function(x, **options)
    for layout, view in layouts(x):
        if view.is_neg():
            continue
        memory = torch.full((32 * x.numel(),), NAN)
        target = memory.as_strided(view.shape, view.stride()).copy_(view)
        assert function(target, inplace=True, **options) is target
        assert_bits(target, expected, layout)


def test_in_place_leaves_what_lies_between_the_elements() -> None:
    whole = normal("x", 4, 9, 5)
    before = whole.clone()
    part = whole[1:3, ::2, 1:4]
    expected = F.relu(part)
    F.relu(part, inplace=True)
    assert_bits(part, expected)
    whole[1:3, ::2, 1:4] = before[1:3, ::2, 1:4]
    assert_bits(whole, before)


def test_in_place_on_expanded_memory_is_refused() -> None:
    """One memory location would be written twice, as stock PyTorch says too."""
    with pytest.raises(RuntimeError, match=r"\binput\b"):
        F.relu(torch.ones(1, 3).expand(4, 3), inplace=True)


def test_large_batch() -> None:
    x = normal("x", 65537, 3)
    assert_bits(F.relu(x), torch.from_numpy(reference_functions.FUNCTIONS["relu"](x.numpy())))
    assert_bits(F.sigmoid(x)[65536], F.sigmoid(x[65536]))


def test_zero_dimensions() -> None:
    assert_bits(F.relu(torch.tensor(-1.0)), torch.tensor(0.0))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("name", sorted(unary.OF_INTEGERS_TOO))
def test_integers_are_rounded_to_the_default_dtype_first(name: str, dtype: torch.dtype) -> None:
    """As PyTorch's functions do, whose own square root of integers is no exacter than of others."""
    integers = torch.tensor([0, 1, 3, 100, 2**24 + 1, 2**31 - 1]).to(dtype)
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            with warnings.catch_warnings(), bninv.invariant():
                warnings.simplefilter("error")
                got = getattr(torch, name)(integers)
        finally:
            torch.set_default_dtype(torch.float32)
        assert_bits(got, getattr(F, name)(integers.to(default)))
    with bninv.invariant(), pytest.raises(RuntimeError, match="can't be cast"):
        getattr(integers, f"{name}_")()
