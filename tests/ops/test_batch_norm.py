"""batch_norm in eval mode: R2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support import reference
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    nan_filled,
    normal,
    positive,
    with_specials,
)


def numpy_batch_norm(x: Tensor, *parameters: Tensor | None, eps: float = 1e-5) -> Tensor:
    arrays = (None if v is None else v.contiguous().numpy() for v in (x, *parameters))
    return torch.from_numpy(reference.batch_norm(*arrays, eps=eps))


def parameters(channels: int, affine: str = "weight bias") -> list[Tensor | None]:
    mean, var = normal("mean", channels), positive("var", channels)
    weight = normal("weight", channels) if "weight" in affine else None
    bias = normal("bias", channels) if "bias" in affine else None
    return [mean, var, weight, bias]


def batch_norm_case(label: str, shape, affine: str = "weight bias", eps: float = 1e-5) -> Case:
    values = parameters(shape[1], affine)
    return Case(
        label,
        shape,
        run=lambda x: F.batch_norm(x, *values, eps=eps),
        # Stock refuses an eps of 0; next to a variance of 0.1 this one cannot be told from it.
        stock=lambda x: torch.nn.functional.batch_norm(x, *values, eps=eps or 1e-30),
        reference=lambda x: numpy_batch_norm(torch.from_numpy(x), *values, eps=eps).numpy(),
    )


class TestBatchNorm(ContractTests):
    CASES = [
        batch_norm_case("one element", (3, 1, 1, 1)),
        batch_norm_case("two dimensions", (5, 19)),
        batch_norm_case("two dimensions, one channel", (5, 1)),
        batch_norm_case("three dimensions", (3, 7, 11)),
        batch_norm_case("three dimensions, one pixel", (3, 33, 1)),
        batch_norm_case("four dimensions", (3, 17, 5, 7)),
        batch_norm_case("four dimensions, one channel", (3, 1, 5, 7)),
        batch_norm_case("four dimensions, one pixel", (3, 35, 1, 1)),
        batch_norm_case("five dimensions", (2, 3, 4, 5, 3)),
        batch_norm_case("many elements", (3, 67, 31, 33)),
        batch_norm_case("many channels", (2, 1031, 3, 2)),
        batch_norm_case("no weight", (2, 5, 6, 7), affine="bias"),
        batch_norm_case("no bias", (2, 5, 6, 7), affine="weight"),
        batch_norm_case("no weight, no bias", (2, 5, 6, 7), affine=""),
        batch_norm_case("timm's eps", (2, 5, 6, 7), eps=1e-3),
        batch_norm_case("large eps", (2, 5, 6, 7), eps=0.7),
        batch_norm_case("no eps", (2, 5, 6, 7), eps=0.0),
    ]


def test_parameters_of_any_value() -> None:
    """Zero, negative, infinite, subnormal variance; huge and tiny scales."""
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 1e-40, 1e-45, 3e38, 1e-10, -1e-6])
    mean, var, weight, bias = (
        v.flatten().contiguous()
        for v in torch.meshgrid(values[::2], values, values[1::2], values[::3], indexing="ij")
    )
    x = with_specials(normal("x", 2, len(mean)), share=0.5)
    expected = numpy_batch_norm(x, mean, var, weight, bias)
    for _, view in layouts(x):
        assert_equals_at_each_level(
            lambda v=view: F.batch_norm(v, mean, var, weight, bias), expected
        )


def test_missing_bias_is_zero_added_by_the_same_fma() -> None:
    """(x - mean) * s = -0 gives +0: the fma is executed with a missing bias all the same."""
    one, zero = torch.ones(1), torch.zeros(1)
    x = torch.zeros(2, 1, 3, 3)
    for affine in ([None, None], [-one, None], [-one, zero]):
        for _, view in layouts(x):
            result = F.batch_norm(view, zero, one, *affine)
            assert (result == 0).all() and not result.signbit().any()


def test_flush_to_zero_changes_no_subnormal_parameter() -> None:
    """x - mean, the scale, the bias and the result lie in the subnormal range in turn."""
    tiny = normal("tiny", 4, 9) * 2.0**-128
    scale = torch.ones(9)
    settings = {
        "difference": (tiny[1], scale, scale * 2.0**100, None),
        "scale": (tiny[1], scale, tiny[2], None),
        "bias and result": (tiny[1], scale, scale, tiny[3]),
        "variance": (tiny[1], tiny[2].abs(), scale, tiny[3]),
    }
    x = (normal("x", 3, 9, 4, 5) * 2.0**-128).contiguous()
    for name, values in settings.items():
        expected = numpy_batch_norm(x, *values, eps=0.0)
        assert torch.set_flush_denormal(True)
        try:
            results = [F.batch_norm(v, *values, eps=0.0) for _, v in layouts(x)]
        finally:
            torch.set_flush_denormal(False)
        for result in results:
            assert_bits(result, expected, name)


def test_eps_is_rounded_to_float32_first() -> None:
    """1 + 2^-24 + 2^-40 as a binary64 sum would round up; 2^-24 + 2^-50 rounds to 2^-24 first."""
    eps = 2.0**-24 + 2.0**-50
    x = torch.full((1, 1), 3.0)
    zero, one = torch.zeros(1), torch.ones(1)
    assert_bits(F.batch_norm(x, zero, one, eps=eps), x)
    x = normal("x", 4, 9)
    values = parameters(9)
    for eps in (1e-5, 1e-3, 0.1, 1e-12, 1e-42):
        expected = numpy_batch_norm(x, *values, eps=eps)
        assert_bits(F.batch_norm(x, *values, eps=eps), expected, f"eps {eps}")


@pytest.mark.parametrize("index", range(4))
def test_parameter_layouts(index: int) -> None:
    values = parameters(5)
    x = normal("x", 2, 5, 3, 3)
    original = values[index]
    for view in (
        nan_filled(10)[1::2].copy_(original),
        nan_filled(6)[1:].copy_(original),
        original[:1].expand(5),
    ):
        values[index] = view
        expected = numpy_batch_norm(x, *values)
        assert_equals_at_each_level(lambda: F.batch_norm(x, *values), expected)


def test_parameters_are_read_at_each_call() -> None:
    values = parameters(5)
    x = normal("x", 2, 5, 3, 3)
    F.batch_norm(x, *values)
    for value in values:
        value.numpy()[...] += 1  # behind PyTorch's back
        assert_bits(F.batch_norm(x, *values), numpy_batch_norm(x, *values))


def test_running_statistics_stay() -> None:
    values = parameters(5)
    before = [v.clone() for v in values]
    F.batch_norm(normal("x", 2, 5, 3, 3), *values, training=False, momentum=0.1)
    for value, copy in zip(values, before, strict=True):
        assert_bits(value, copy)


def test_large_batch() -> None:
    x = normal("x", 65537, 3, 1, 2)
    values = parameters(3)
    for _, view in list(layouts(x))[:2]:
        assert_bits(F.batch_norm(view, *values), numpy_batch_norm(x, *values))


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.sampled_from(["", "weight", "bias", "weight bias"]),
    st.integers(0, 50),
    st.integers(1, 3),
)
def test_any_shape(shape: list[int], affine: str, layout: int, threads: int) -> None:
    values = parameters(shape[1], affine)
    x = with_specials(normal(shape, *shape), shape)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    torch.set_num_threads(threads)
    expected = numpy_batch_norm(x, *values)
    assert_equals_at_each_level(lambda: F.batch_norm(view, *values), expected, name)


def test_result_is_a_new_tensor() -> None:
    x = normal("x", 2, 5, 3, 3)
    result = F.batch_norm(x, *parameters(5))
    assert not np.shares_memory(result.numpy(), x.numpy())
