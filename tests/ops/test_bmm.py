"""bmm and baddbmm: R1, or R9, for each sample of a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bninv.functional as F
from tests.support import reference_dtypes
from tests.support.properties import (
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    matrix_orders,
    nan_filled,
    normal,
    with_specials,
)

floating = pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
# batch, rows, terms, columns: single elements, tiles and one more, several segments, windows.
SHAPES = [
    (1, 1, 1, 1),
    (3, 5, 7, 9),
    (2, 17, 130, 33),
    (4, 49, 32, 49),
    (3, 49, 49, 32),
    (2, 15, 128, 16),
    (2, 29, 257, 67),
    (2, 3, 300, 1),
    (2, 100, 19, 130),
]


def same_for_all(k: int, n: int, dtype: torch.dtype, transposed: bool) -> Case:
    right = normal(f"{k} {n}", 1, k, n, dtype=dtype)
    right = right.mT.contiguous().mT if transposed else right
    widened = reference_dtypes.widened(right, dtype)
    return Case(
        f"{k} to {n}, {dtype}",
        (3, 5 + k % 13, k),
        run=lambda x: F.matmul(x, right.expand(len(x), k, n)),
        stock=lambda x: torch.matmul(x, right),
        reference=lambda x: reference_dtypes.reference.bmm(x, widened),
        dtype=dtype,
    )


class TestOneRightOperand(ContractTests):
    """The same matrix for all samples, by a batch dimension of stride 0."""

    CASES = [
        same_for_all(k, n, dtype, k % 2 == 0)
        for dtype in reference_dtypes.FLOATING
        for k, n in ((7, 9), (130, 33), (33, 49))
    ]


@floating
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_order_of_both_operands(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, rows, terms, columns = shape
    left = normal("left", batch, rows, terms, dtype=dtype)
    right = normal("right", batch, terms, columns, dtype=dtype)
    expected = reference_dtypes.bmm(left, right)
    rights = list(matrix_orders(right))
    for i, (left_name, a) in enumerate(matrix_orders(left)):
        torch.set_num_threads(1 + i % 3)
        for j in (0, 1, 5):  # in turn all of them
            right_name, b = rights[(i + j) % len(rights)]
            name = f"left {left_name}, right {right_name}"
            assert_equals_at_each_level(lambda a=a, b=b: F.matmul(a, b), expected, name)


@floating
def test_samples_are_linear_layers(dtype: torch.dtype) -> None:
    left, right = normal("l", 5, 20, 140, dtype=dtype), normal("r", 5, 140, 40, dtype=dtype)
    for _, product in at_each_level(lambda: F.matmul(left, right)):
        for i, sample in enumerate(product):
            assert_bits(sample, F.linear(left[i], right[i].t()))


@floating
def test_expanded_operands(dtype: torch.dtype) -> None:
    left, right = normal("l", 1, 9, 37, dtype=dtype), normal("r", 1, 37, 21, dtype=dtype)
    expected = reference_dtypes.bmm(left, right).expand(4, 9, 21)
    for a in (left.expand(4, 9, 37), left.expand(4, 9, 37).contiguous()):
        for b in (right.expand(4, 37, 21), right.mT.contiguous().mT.expand(4, 37, 21)):
            assert_equals_at_each_level(lambda a=a, b=b: F.matmul(a, b), expected)
    # Rows, and terms, that are all the same.
    same = left[:, :1].expand(4, 9, 37)
    assert_bits(F.matmul(same, right.expand(4, 37, 21)), expected[:, :1].expand(4, 9, 21))
    ones = torch.ones(1, 1, 1, dtype=dtype).expand(4, 9, 37)
    found = F.matmul(ones, right.expand(4, 37, 21))
    assert_bits(
        found, reference_dtypes.bmm(torch.ones(1, 9, 37, dtype=dtype), right).expand(4, 9, 21)
    )


@floating
def test_heads_of_images_lie_where_they_lie(dtype: torch.dtype) -> None:
    """Batches of groups, as attention by single calls has them: no strides are special."""
    batch, heads, tokens, size = 3, 2, 19, 40
    packed = normal("qkv", batch, tokens, 3, heads, size, dtype=dtype)
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
    flat = [t.reshape(batch * heads, tokens, size) for t in (q, k, v)]
    scores = reference_dtypes.bmm(flat[0], flat[1].mT)
    assert_equals_at_each_level(lambda: F.matmul(q, k.mT).flatten(0, 1), scores)
    shape = (batch, heads, tokens, tokens)
    scores = torch.as_tensor(scores).to(dtype)
    results = reference_dtypes.bmm(scores, flat[2])
    for _, order in matrix_orders(scores):
        left = order.reshape(shape)
        assert_equals_at_each_level(lambda left=left: F.matmul(left, v).flatten(0, 1), results)
    # One matrix for all heads, for all images, and for both; rows that are no batch.
    shared = normal("shared", size, 7, dtype=dtype)
    for rest in ((1, 1), (batch, 1), (1, heads)):
        right = shared.expand(*rest, size, 7)
        expected = reference_dtypes.bmm(flat[0], shared.expand(batch * heads, size, 7))
        assert_equals_at_each_level(lambda r=right: F.matmul(q, r).flatten(0, 1), expected)
    one = F.matmul(q[0, 0, 0], k.mT)
    assert one.shape == (batch, heads, tokens)
    assert_bits(one[1, 1], F.matmul(q[0, 0, :1], k[1, 1].mT)[0])
    for precision in ("tensor-A", "tensor-H"):  # which takes its samples in one row
        if dtype is not torch.float64:
            found = F.matmul(q, k.mT, precision=precision)
            assert_bits(found.flatten(0, 1), F.matmul(flat[0], flat[1].mT, precision=precision))


def test_groups_of_other_sizes_are_refused() -> None:
    product = torch.ops.bninv.bmm.default
    left = torch.ones(2, 3, 4, 5)
    for shape in ((2, 3, 6, 7), (2, 4, 5, 7), (3, 3, 5, 7), (3, 5, 7)):
        with pytest.raises(
            RuntimeError, match=r"`mat2` has shape .* it may be \[2, 3, 5, columns\]"
        ):
            product(left, torch.ones(shape), "ieee")
    with pytest.raises(RuntimeError, match=r"`input` has shape \[1, 2, 3, 4, 5\]; it may be"):
        product(left[None], left[None].mT, "ieee")
    assert product(left[:0], left.mT[:0], "ieee").shape == (0, 3, 4, 4)
    assert product(left[:, :0], left.mT[:, :0], "ieee").shape == (2, 0, 4, 4)


@floating
def test_batch_position_and_neighbours(dtype: torch.dtype) -> None:
    left, right = normal("l", 6, 50, 49, dtype=dtype), normal("r", 6, 49, 33, dtype=dtype)
    whole = F.matmul(left, right)
    for at in (0, 3, 5):
        assert_bits(F.matmul(left[at : at + 1], right[at : at + 1]), whole[at : at + 1], "alone")
        crowd = [nan_filled(*x.shape).to(dtype) for x in (left, right)]
        crowd[0][at], crowd[1][at] = left[at], right[at]
        assert_bits(F.matmul(*crowd)[at], whole[at], "beside NaN")
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        assert_bits(F.matmul(left, right), whole, f"{threads} threads")


def test_special_values() -> None:
    left, right = with_specials(normal("l", 3, 20, 140)), with_specials(normal("r", 3, 140, 40))
    expected = reference_dtypes.bmm(left, right)
    for b in (right, right.mT.contiguous().mT):
        for a in (left, left.mT.contiguous().mT):
            assert_equals_at_each_level(lambda a=a, b=b: F.matmul(a, b), expected)


def test_zero_results_are_positive() -> None:
    for _, result in at_each_level(
        lambda: F.matmul(torch.full((2, 3, 40), 1e-45), torch.full((2, 40, 33), -1e-45))
    ):
        assert (result == 0).all() and not result.signbit().any()


def test_nothing_to_do() -> None:
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 4, 0)):
        batch, rows, terms, columns = shape
        found = F.matmul(torch.ones(batch, rows, terms), torch.ones(batch, terms, columns))
        assert found.shape == (batch, rows, columns)
    assert_bits(F.matmul(torch.ones(2, 3, 0), torch.ones(2, 0, 4)), torch.zeros(2, 3, 4))


sizes = st.tuples(st.integers(0, 5), st.integers(1, 60), st.integers(0, 300), st.integers(1, 80))


@settings(max_examples=60)
@given(sizes, st.tuples(st.integers(0, 8), st.integers(0, 8)), st.sampled_from(range(4)))
def test_any_problem(shape: tuple[int, ...], places: tuple[int, int], which: int) -> None:
    batch, rows, terms, columns = shape
    dtype = reference_dtypes.FLOATING[which]
    left = normal("l", batch, rows, terms, dtype=dtype)
    right = normal("r", batch, terms, columns, dtype=dtype)
    names, views = zip(
        *(list(matrix_orders(x))[i] for x, i in zip((left, right), places, strict=True))
    )
    torch.set_num_threads(1 + which)
    expected = reference_dtypes.bmm(left, right)
    assert_equals_at_each_level(lambda: F.matmul(*views), expected, f"{shape}, {names}")


# ---- baddbmm -------------------------------------------------------------------------------------

FACTORS = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.3), (-0.7, 1.0), (0.1, -2.3), (0.0, 0.0)]


@floating
@pytest.mark.parametrize(("beta", "alpha"), FACTORS, ids=str)
def test_baddbmm(dtype: torch.dtype, beta: float, alpha: float) -> None:
    left, right = normal("l", 3, 9, 140, dtype=dtype), normal("r", 3, 140, 37, dtype=dtype)
    for shape in ((3, 9, 37), (9, 1), (37,), ()):
        addend = with_specials(normal("a", *shape, dtype=dtype)) if shape else normal("a", 1)[0]
        addend = addend.to(dtype)
        expected = reference_dtypes.baddbmm(addend, left, right, beta=beta, alpha=alpha)
        for right_name, b in list(matrix_orders(right))[:2]:
            assert_equals_at_each_level(
                lambda a=addend, b=b: F.baddbmm(a, left, b, beta=beta, alpha=alpha),
                expected,
                f"input {shape}, right {right_name}",
            )


def test_baddbmm_of_ones_is_linear_with_a_bias() -> None:
    left, right, bias = normal("l", 2, 9, 140), normal("r", 2, 140, 37), normal("b", 37)
    found = F.baddbmm(bias, left, right)
    for i in range(2):
        assert_bits(found[i], F.linear(left[i], right[i].t(), bias))


def test_a_beta_of_0_ignores_nan() -> None:
    left, right = normal("l", 2, 3, 4), normal("r", 2, 4, 5)
    found = F.baddbmm(torch.full((2, 3, 5), torch.nan), left, right, beta=0)
    assert_bits(found, F.matmul(left, right))


def test_baddbmm_of_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`input` has shape \[4, 5\]; it may be one that broad"):
        F.baddbmm(torch.ones(4, 5), torch.ones(2, 3, 6), torch.ones(2, 6, 5))
    with pytest.raises(
        RuntimeError, match=r"`batch2` has shape \[2, 7, 5\].* may be \[2, 6, colum"
    ):
        F.baddbmm(torch.ones(3, 5), torch.ones(2, 3, 6), torch.ones(2, 7, 5))
    with pytest.raises(ValueError, match=r"`alpha` is 'x' \(str\); it may be a number"):
        F.baddbmm(torch.ones(3, 5), torch.ones(2, 3, 6), torch.ones(2, 6, 5), alpha="x")


# ---- R9 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["tensor-A", "tensor-H"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_samples_are_linear_layers_on_tensor_cores(precision: str, dtype: torch.dtype) -> None:
    left, right = normal("l", 3, 9, 140, dtype=dtype), normal("r", 3, 140, 21, dtype=dtype)
    addend = normal("a", 21, dtype=dtype)
    for a, b in ((left, right), (left.mT.contiguous().mT, right.mT.contiguous().mT)):
        found = F.matmul(a, b, precision=precision)
        added = F.baddbmm(addend, a, b, precision=precision)
        for i in range(3):
            assert_bits(found[i], F.linear(left[i], right[i].t(), precision=precision))
            assert_bits(added[i], F.linear(left[i], right[i].t(), addend, precision=precision))
    same = F.matmul(left, right[:1].expand(3, 140, 21), precision=precision)
    assert_bits(same[2], F.linear(left[2], right[0].t(), precision=precision))
