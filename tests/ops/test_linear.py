"""linear: R1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support import reference, reference_dtypes
from tests.support.properties import (
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    normal,
    with_specials,
)


def numpy_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return reference_dtypes.linear(x, weight, bias)


def linear_case(
    label: str, shape, out_features: int, bias: bool = True, dtype: torch.dtype = torch.float32
) -> Case:
    weight = normal(f"{label} weight", out_features, shape[-1], dtype=dtype)
    bias_ = normal(f"{label} bias", out_features, dtype=dtype) if bias else None
    arrays = [None if v is None else reference_dtypes.widened(v, dtype) for v in (weight, bias_)]
    return Case(
        label,
        shape,
        run=lambda x: F.linear(x, weight, bias_),
        stock=lambda x: torch.nn.functional.linear(x, weight, bias_),
        reference=lambda x: reference.linear(x, *arrays),
        dtype=dtype,
    )


class TestLinear(ContractTests):
    CASES = [
        linear_case("one by one", (3, 1), 1),
        *(
            linear_case(f"{k} to {o}", (b, k), o, bias=k % 2 == 0)
            for k, o, b in (
                (2, 3, 5),
                (17, 1, 3),
                (127, 9, 4),
                (128, 16, 7),
                (129, 33, 6),
                (256, 31, 5),
                (257, 65, 14),
                (1031, 10, 2),
            )
        ),
        linear_case("three dimensions", (3, 5, 19), 7),
        linear_case("four dimensions", (2, 3, 4, 130), 17, bias=False),
        linear_case("classifier", (3, 512), 1000),
        linear_case("many rows", (9, 61, 40), 50),
    ]


class TestLinearDtypes(ContractTests):
    CASES = [
        linear_case(*case, dtype=dtype)
        for dtype in reference_dtypes.OTHERS
        for case in (
            ("7 to 5", (3, 7), 5, False),
            ("129 to 33", (6, 129), 33),
            ("150 to 130", (2, 150), 130),
            ("three dimensions", (3, 17, 40), 20),
        )
    ]


@pytest.mark.parametrize("shape", [(7, 5), (33, 129), (1, 200), (16, 128)])
def test_weight_layouts(shape: tuple[int, int]) -> None:
    weight, x = normal("w", *shape), normal("x", 3, shape[1])
    expected = numpy_linear(x, weight)
    for input_name, x_view in layouts(x):
        for name, view in layouts(weight):
            assert_equals_at_each_level(
                lambda x=x_view, w=view: F.linear(x, w),
                expected,
                f"input {input_name}, weight {name}",
            )


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("out_features", [203, 512])
def test_every_number_of_rows(out_features: int, dtype: torch.dtype) -> None:
    """It chooses the tiles, and whether weights are packed; of 512 features they are a cache's sets
    apart."""
    most = 75
    x, weight = normal("x", most, 131, dtype=dtype), normal("w", out_features, 131, dtype=dtype)
    expected = numpy_linear(x, weight)
    torch.set_num_threads(1)  # else columns are cut into narrow blocks
    for rows in [*range(1, 16), 28, 29, 42, 56, 57, most]:
        assert_equals_at_each_level(
            lambda rows=rows: F.linear(x[:rows], weight), expected[:rows], f"{rows} rows"
        )


def test_special_weights() -> None:
    weight = with_specials(normal("w", 40, 300), share=0.002)
    x = with_specials(normal("x", 5, 300), share=0.002)
    bias = with_specials(normal("b", 40))
    for w in (weight, weight.t().contiguous().t()):
        assert_equals_at_each_level(lambda w=w: F.linear(x, w, bias), numpy_linear(x, weight, bias))


def test_any_leading_dimensions_are_rows() -> None:
    weight, bias = normal("w", 11, 37), normal("b", 11)
    x = normal("x", 24, 37)
    expected = F.linear(x, weight, bias)
    for leading in ((2, 12), (2, 3, 4), (1, 24), (24, 1), (2, 1, 3, 2, 2)):
        result = F.linear(x.view(*leading, 37), weight, bias)
        assert_bits(result.view(24, 11), expected, str(leading))
    assert_bits(F.linear(x[5], weight, bias), expected[5], "one row without a batch")


def test_one_dimensional_weight_is_refused() -> None:
    """Stock PyTorch takes one, as a dot product; no module does."""
    with pytest.raises(RuntimeError, match="weight"):
        F.linear(normal("x", 3, 200), normal("w", 200))


def test_no_terms() -> None:
    """No terms give +0, and a bias is added to that."""
    x, weight = torch.ones(3, 0), torch.ones(4, 0)
    assert_bits(F.linear(x, weight), torch.zeros(3, 4))
    bias = torch.tensor([1.0, -0.0, 0.0, -2.0])
    assert_bits(F.linear(x, weight, bias), torch.zeros(3, 4) + bias)


def test_zero_results_are_positive() -> None:
    for weight in (-torch.ones(3, 5), torch.full((3, 5), -1e-45)):
        for bias in (None, torch.full((3,), -0.0)):
            x = torch.full((2, 5), 1e-45) if weight[0, 0] > -1 else torch.zeros(2, 5)
            for _, result in at_each_level(lambda x=x, w=weight, b=bias: F.linear(x, w, b)):
                assert (result == 0).all() and not result.signbit().any()


def test_weight_is_read_at_each_call() -> None:
    weight, bias, x = normal("w", 5, 33), normal("b", 5), normal("x", 3, 33)
    F.linear(x, weight, bias)
    weight.data.mul_(2)
    bias.numpy()[...] += 1  # behind PyTorch's back
    assert_bits(F.linear(x, weight, bias), numpy_linear(x, weight, bias))


def test_large_batch() -> None:
    x, weight = normal("x", 65537, 3), normal("w", 2, 3)
    assert_bits(F.linear(x, weight), numpy_linear(x, weight))


@settings(max_examples=80)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(1, 300),
    st.integers(1, 70),
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 3), st.booleans()),
    st.sampled_from(reference_dtypes.FLOATING),
)
def test_any_problem(
    leading: list[int], k: int, out_features: int, choices: tuple, dtype: torch.dtype
) -> None:
    x_layout, weight_layout, threads, has_bias = choices
    x, weight = normal(leading, *leading, k, dtype=dtype), normal("w", out_features, k, dtype=dtype)
    bias = normal("b", out_features, dtype=dtype) if has_bias else None
    x_views, weight_views = list(layouts(x)), list(layouts(weight))
    x_name, x_view = x_views[x_layout % len(x_views)]
    weight_name, weight_view = weight_views[weight_layout % len(weight_views)]
    torch.set_num_threads(threads)
    assert_equals_at_each_level(
        lambda: F.linear(x_view, weight_view, bias),
        numpy_linear(x, weight, bias),
        f"input {x_name}, weight {weight_name}, {threads} threads",
    )


MATRICES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((5, 2, 130), (130, 4)),
    ((3,), (2, 3, 4)),
    ((5, 2, 130), (5, 130, 4)),
    ((2, 1, 3, 7), (4, 7, 5)),
    ((0, 2, 3), (0, 3, 4)),
]


@pytest.mark.parametrize(("left", "right"), MATRICES, ids=str)
def test_matmul(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """R1 for each pair of a row and a column, by torch.matmul's rules of shape."""
    a, b = normal("a", *left), normal("b", *right)
    found = F.matmul(a, b)
    stock = torch.matmul(a, b)
    assert found.shape == stock.shape
    torch.testing.assert_close(found, stock)
    if len(left) >= 2 and len(right) >= 3:
        for i in range(left[0]):
            part = F.matmul(a[i : i + 1], b[i : i + 1] if len(right) == len(left) else b)
            assert_bits(part, found[i : i + 1])
            if len(left) == 3:
                assert_bits(found[i], F.linear(a[i], b[i].t()))


def test_matmul_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="`input` and `other` have 0 and 1 dimensions"):
        F.matmul(torch.tensor(1.0), torch.ones(1))
