"""The reference itself: fma against exact rational arithmetic, orders against worked sums."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import reference, reference_fma64

# Stock PyTorch, the yardstick, says that it copies.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

SMALLEST = Fraction(2) ** -149
LARGEST = (2 - Fraction(2) ** -23) * Fraction(2) ** 127


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def bits(array: np.ndarray) -> list[int]:
    return [int(b) for b in np.ravel(array).astype(np.float32).view(np.uint32)]


def nearest_float32(exact: Fraction) -> np.float32:
    """Round to nearest, ties to even, by integer arithmetic alone; `exact` is not zero."""
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    spacing = max(Fraction(2) ** (exponent - 23), SMALLEST)
    steps, rest = divmod(magnitude, spacing)
    if rest > spacing / 2 or (rest == spacing / 2 and steps % 2 == 1):
        steps += 1
    rounded = steps * spacing
    # A float32 value is a float64 value, so this conversion is exact.
    value = np.float32(float(rounded)) if rounded <= LARGEST else np.float32(np.inf)
    return np.copysign(value, np.float32(1 if exact > 0 else -1))


def assert_fma_is_exact(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    actual = reference.fma(a, b, c)
    for ai, bi, ci, result in zip(a, b, c, actual, strict=True):
        exact = Fraction(float(ai)) * Fraction(float(bi)) + Fraction(float(ci))
        if exact:  # the sign of an exact zero is tested by itself
            expected = nearest_float32(exact)
            assert bits(result) == bits(expected), f"fma({ai!r}, {bi!r}, {ci!r})"
        else:
            assert result == 0


finite = st.integers(0, 2**32 - 1).map(lambda b: np.uint32(b).view(np.float32)).filter(np.isfinite)


@settings(max_examples=500)
@given(finite, finite, finite)
# The float64 sum lies halfway between two float32 numbers, the exact sum does not: rounding twice
# goes to the even one, whichever side the rest is on.
@example(np.float32(1 + 2**-23), np.float32(2**-24 * (1 + 2**-23)), np.float32(1))
@example(np.float32(2**-60), np.float32(1), np.float32(1 + 2**-23))
@example(np.float32(2**-126), np.float32(2**-24), np.float32(2**-149))
def test_fma_of_any_bits(a: np.float32, b: np.float32, c: np.float32) -> None:
    assert_fma_is_exact(floats(a), floats(b), floats(c))


# 2^36 + 1 and 2^36 - 1 as products of two 24-bit numbers: with an addend they lie on a tie but for
# a rest 36 bits below, which float64 drops.
NEAR_ONE = {
    "above": ((2**12 + 1) * 2.0**-12, (2**24 - 2**12 + 1) * 2.0**-24),
    "below": ((2**18 - 1) * 2.0**-18, (2**18 + 1) * 2.0**-18),
    "tie": (1.0, 1.0),
}


@pytest.mark.parametrize("side", NEAR_ONE)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("exponent", [-149, -148, -126, -30, -1, 0, 1, 60, 104])
def test_fma_near_ties(exponent: int, sign: int, side: str) -> None:
    """Half a last place is added to numbers whose last place is 2^exponent: down to the smallest
    subnormal, up to the largest number, where the tie overflows."""
    mantissas = np.array([0, 1, 2, 3, 2**22, 2**23 + 1, 2**23 + 2, 2**24 - 2, 2**24 - 1])
    c = np.ldexp(mantissas.astype(np.float64), exponent).astype(np.float32)
    left, right = NEAR_ONE[side]
    half = exponent - 1
    a = np.full(len(c), np.ldexp(left, half // 2), np.float32)
    b = np.full(len(c), sign * np.ldexp(right, half - half // 2), np.float32)
    assert_fma_is_exact(a, b, c)
    assert_fma_is_exact(a, b, -c)


def test_fma_rounds_once_where_float64_rounds_twice() -> None:
    left, right = NEAR_ONE["above"]
    a, b, c = floats(left), floats(right * 2.0**-24), floats(1)
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert twice[0] == 1
    assert reference.fma(a, b, c)[0] == 1 + 2.0**-23


doubles = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=1000)
@given(doubles, doubles, doubles, st.integers(-60, 60))
@example(1.0 + 2.0**-52, 1.0 - 2.0**-53, -1.0, 0)
@example(2.0**-30 + 2.0**-80, 2.0**-23, 1.0, 0)
def test_fma64(a: float, b: float, c: float, exponent: int) -> None:
    """Vectorised and by exact rationals; the last of the sums cancel, the third are near ties."""
    cases = [(a, b, c), (*np.frexp([a, b])[0], np.ldexp(np.frexp(c)[0], exponent)), (a, 1.0, c)]
    cases += [(x, y, -x * y) for x, y, _ in cases if np.isfinite(x * y)]
    for case in cases:
        exact = reference_fma64.exact(*(float(v) for v in case))
        actual = float(reference_fma64.fma64(*case))
        assert actual.hex() == exact.hex(), case


def test_fma_overflow_infinity_nan_and_zero() -> None:
    inf, nan, large = np.inf, np.nan, float(LARGEST)
    a = floats(large, large, inf, inf, 0, nan, 1, 2.0**-100, -(2.0**-100), 1, 1, -0.0, 0, 1)
    b = floats(2, 2, 1, -1, inf, 1, nan, 2.0**-100, 2.0**-100, 1, -1, 1, -1, inf)
    c = floats(0, -inf, -inf, 1, 1, 1, 1, 0, -0.0, -1, 1, -0.0, 0, inf)
    expected = floats(inf, -inf, nan, -inf, nan, nan, nan, 0, -0.0, 0, 0, -0.0, 0, inf)
    actual = reference.fma(a, b, c)
    assert np.array_equal(np.isnan(actual), np.isnan(expected))
    number = ~np.isnan(expected)
    assert bits(actual[number]) == bits(expected[number])


# ---- R1 ------------------------------------------------------------------------------------------


def test_dot_adds_segments_not_one_chain() -> None:
    a = np.zeros(257, np.float32)
    a[0], a[128], a[129] = 2**24, 1, 1
    ones = np.ones(257, np.float32)
    # One chain would lose each 1 by itself; a segment adds them to each other first.
    assert reference.dot(a, ones) == 2**24 + 2
    a = np.roll(a, 127)  # the large term ends the first segment, the ones straddle the second's end
    assert a[127] == 2**24 and a[255] == 1 and a[256] == 1
    assert reference.dot(a, ones) == 2**24


def test_dot_uses_fma() -> None:
    a = floats(-1, 1 + 2.0**-12)
    assert reference.dot(a, floats(1 + 2.0**-11, 1 + 2.0**-12)) == 2.0**-24


def test_dot_adds_segments_left_to_right() -> None:
    a = np.zeros(3 * 128, np.float32)
    a[::128] = 2**24, 1, 1
    assert reference.dot(a, np.ones_like(a)) == 2**24
    assert reference.dot(a[::-1].copy(), np.ones_like(a)) == 2**24 + 2


def test_dot_never_shows_a_negative_zero() -> None:
    tiny = floats(2.0**-149)
    assert bits(reference.fma(-tiny, tiny, floats(0))) == bits(floats(-0.0))
    assert bits(reference.dot(-tiny, tiny)) == bits(floats(0))
    assert bits(reference.dot(floats(), floats())) == bits(floats(0))
    assert bits(reference.dot(-tiny, tiny, floats(-0.0))) == bits(floats(0))


def test_conv2d_term_order_is_row_column_channel() -> None:
    """2^24 + 1 - 2^24 is 0 in this order and 1 if the two large terms meet first."""
    large = 2.0**24
    for values, expected in [
        ({(0, 0, 0): large, (1, 0, 0): 1, (0, 0, 1): -large}, 0),  # (c, r, s): channels fastest
        ({(0, 0, 0): large, (0, 0, 1): 1, (0, 1, 0): -large}, 0),  # then columns
        ({(0, 0, 0): large, (1, 0, 0): -large, (0, 0, 1): 1}, 1),
        ({(0, 0, 0): large, (0, 0, 1): -large, (0, 1, 0): 1}, 1),
    ]:
        x = np.zeros((1, 2, 2, 2), np.float32)
        for (c, r, s), value in values.items():
            x[0, c, r, s] = value
        assert reference.conv2d(x, np.ones_like(x)).item() == expected


def test_conv2d_padding_is_a_real_term() -> None:
    weight = np.full((1, 1, 3, 3), 1, np.float32)
    weight[0, 0, 0, 0] = np.inf
    result = reference.conv2d(np.ones((1, 1, 2, 2), np.float32), weight, padding=1)
    assert np.array_equal(np.isnan(result[0, 0]), [[True, True], [True, False]])
    assert result[0, 0, 1, 1] == np.inf


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 3},
        {"padding": (0, 2), "dilation": (2, 1)},
        {"padding": "same", "dilation": 3},
        {"padding": "valid", "stride": (3, 1)},
    ],
)
def test_conv2d_indices_are_torchs(options: dict, groups: int) -> None:
    """On small integers every order of terms is exact, so only the indices can differ."""
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 6, 7, 9)).astype(np.float32)
    weight = rng.integers(-4, 5, (12, 6 // groups, 2, 4)).astype(np.float32)
    bias = rng.integers(-4, 5, 12).astype(np.float32)
    stock = torch.nn.functional.conv2d(
        *(torch.from_numpy(v).double() for v in (x, weight, bias)), groups=groups, **options
    )
    actual = reference.conv2d(x, weight, bias, groups=groups, **options)
    assert np.array_equal(actual, stock.numpy())


# ---- R2, R3, pooling -----------------------------------------------------------------------------


def test_batch_norm_is_one_fma_per_element() -> None:
    x, mean, var, weight, bias = (floats(v) for v in (3.3, 0.7, 1.9, 1.1, -2.3))
    scale = weight / np.sqrt(var + np.float32(1e-5))
    expected = reference.fma(x - mean, scale, bias)
    actual = reference.batch_norm(x[None], mean, var, weight, bias)
    assert bits(actual) == bits(expected)


def test_sum32_has_32_lanes_and_a_tree() -> None:
    x = np.zeros(64, np.float32)
    x[0], x[32], x[16] = 2**24, 1, 1  # lane 0 loses x[32] before lane 16 joins it
    assert reference.sum32(x) == 2**24
    x = np.zeros(32, np.float32)
    x[0], x[8], x[24] = 2**24, 1, 1  # lanes 8 and 24 join first (h = 16), then lane 0 (h = 8)
    assert reference.sum32(x) == 2**24 + 2
    x = np.zeros(32, np.float32)
    x[0], x[16], x[8] = 2**24, 1, 1
    assert reference.sum32(x) == 2**24


def test_sum32_cuts_long_sums() -> None:
    x = np.zeros(4096 + 33, np.float32)
    x[0], x[4096], x[4128] = 2**24, 1, 1  # both ones are in lane 0 of the second segment
    assert reference.sum32(x) == 2**24 + 2
    x[4096], x[4064] = 0, 1
    assert reference.sum32(x) == 2**24
    assert bits(reference.sum32(floats())) == bits(floats(0))
    assert bits(reference.sum32(floats(-0.0))) == bits(floats(0))


def test_mean_takes_dimensions_in_ascending_order() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    assert bits(reference.mean(x, (3, 1))) == bits(reference.mean(x, (1, -1)))
    assert reference.mean(x, (-1, 2), keepdim=True).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), ((3, 2), (1, 3), (1, 0)), (5, 3, 2)]
)
def test_pooling_indices_are_torchs(kernel, stride, padding, ceil_mode: bool) -> None:
    """Integers again; the average's one division is correctly rounded in both."""
    x = np.random.default_rng(0).integers(-9, 10, (2, 3, 8, 11)).astype(np.float32)
    t = torch.from_numpy(x)
    args = (kernel, stride, padding)
    for options in ({}, {"count_include_pad": False}, {"divisor_override": 7}):
        stock = torch.nn.functional.avg_pool2d(t, *args, ceil_mode=ceil_mode, **options)
        actual = reference.avg_pool2d(x, *args, ceil_mode=ceil_mode, **options)
        assert np.array_equal(actual, stock.numpy())
    stock = torch.nn.functional.max_pool2d(t, *args, ceil_mode=ceil_mode)
    assert np.array_equal(reference.max_pool2d(x, *args, ceil_mode=ceil_mode), stock.numpy())


@pytest.mark.parametrize("output_size", [(1, 1), (3, 5), (8, 11), (9, 2)])
def test_adaptive_pooling_indices_are_torchs(output_size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).integers(-9, 10, (2, 3, 8, 11)).astype(np.float32)
    t = torch.from_numpy(x)
    stock = torch.nn.functional.adaptive_avg_pool2d(t.double(), output_size)
    # float64 quotients of small integers never lie so near a float32 tie that rounding twice shows.
    actual = reference.adaptive_avg_pool2d(x, output_size)
    assert np.array_equal(actual, stock.float().numpy())
    stock = torch.nn.functional.adaptive_max_pool2d(t, output_size)
    assert np.array_equal(reference.adaptive_max_pool2d(x, output_size), stock.numpy())


def test_maximum() -> None:
    a = floats(0.0, -0.0, -0.0, np.nan, 1, np.inf, -np.inf)
    b = floats(-0.0, 0.0, -0.0, 1, np.nan, 1, -1)
    expected = floats(0.0, 0.0, -0.0, np.nan, np.nan, np.inf, -1)
    for first, second in ((a, b), (b, a)):
        actual = reference.maximum(first, second)
        assert np.array_equal(actual, expected, equal_nan=True)
        assert np.array_equal(np.signbit(actual[:3]), np.signbit(expected[:3]))
