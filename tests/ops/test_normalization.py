"""layer_norm, rms_norm, group_norm, instance_norm, and batch_norm of one sample: R5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support import reference_normalization as reference
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    any_bits,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING, NARROW

stock = torch.nn.functional
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def parameters(label: object, *shape: int) -> tuple[Tensor, Tensor]:
    return normal(f"weight {label}", *shape), normal(f"bias {label}", *shape)


def numpy(values: Sequence[Tensor]) -> list[np.ndarray]:
    return [v.numpy() for v in values]


def layer_case(shape: tuple[int, ...], count: int = 1, eps: float = 1e-5) -> Case:
    normalized = shape[-count:]
    values = parameters(shape, *normalized)
    return Case(
        f"layer_norm of {shape} over {normalized}, eps {eps}",
        shape,
        run=lambda x: F.layer_norm(x, normalized, *values, eps=eps),
        stock=lambda x: stock.layer_norm(x, normalized, *values, eps),
        reference=lambda x: reference.layer_norm(x, normalized, *numpy(values), eps=eps),
    )


def rms_case(shape: tuple[int, ...], count: int = 1) -> Case:
    normalized = shape[-count:]
    weight, _ = parameters(shape, *normalized)
    return Case(
        f"rms_norm of {shape} over {normalized}",
        shape,
        run=lambda x: F.rms_norm(x, normalized, weight, 1e-5),
        stock=lambda x: stock.rms_norm(x, normalized, weight, 1e-5),
        reference=lambda x: reference.rms_norm(x, normalized, weight.numpy(), 1e-5),
    )


def group_case(shape: tuple[int, ...], groups: int) -> Case:
    values = parameters(shape, shape[1])
    return Case(
        f"group_norm of {shape} in {groups}",
        shape,
        run=lambda x: F.group_norm(x, groups, *values),
        # Stock refuses one element a group where the batch is one sample.
        stock=lambda x: torch.group_norm(x, groups, *values),
        reference=lambda x: reference.group_norm(x, groups, *numpy(values)),
    )


def instance_case(shape: tuple[int, ...]) -> Case:
    weight, bias = parameters(shape, shape[1])
    return Case(
        f"instance_norm of {shape}",
        shape,
        run=lambda x: F.instance_norm(x, weight=weight, bias=bias),
        stock=lambda x: stock.instance_norm(x, weight=weight, bias=bias),
        reference=lambda x: reference.instance_norm(x, weight.numpy(), bias.numpy()),
    )


class TestLayerNorm(ContractTests):
    CASES = [
        *(layer_case((3, k)) for k in (1, 2, 31, 32, 33, 4095, 4096, 4097, 9000)),
        layer_case((2, 5, 7, 96), eps=1e-6),
        layer_case((2, 3, 11, 13), count=3),
        layer_case((3, 17, 5), count=2),
    ]


class TestRMSNorm(ContractTests):
    CASES = [*(rms_case((3, k)) for k in (1, 15, 33, 4097)), rms_case((2, 5, 7, 9), count=2)]


class TestGroupNorm(ContractTests):
    CASES = [
        group_case((2, 8, 5, 7), 2),
        group_case((2, 6, 9), 6),
        group_case((2, 66), 2),
        group_case((3, 4, 1, 1), 4),
        group_case((2, 96, 3, 3), 1),
        group_case((2, 330, 2, 3), 66),
        group_case((2, 35, 4, 4), 7),
        group_case((2, 2, 65, 64), 1),
        group_case((2, 4, 2, 3, 5), 2),
        group_case((2, 4101, 1, 2), 1),
    ]


class TestInstanceNorm(ContractTests):
    CASES = [
        instance_case((2, 7, 33)),
        instance_case((2, 17, 7, 5)),
        instance_case((2, 3, 65, 64)),
        instance_case((2, 3, 2, 3, 5)),
    ]


# ---- Storage types -------------------------------------------------------------------------------


def typed(name: str, dtype: torch.dtype, own: torch.dtype) -> tuple:
    """An operator's call and its reference's on one input with all kinds of values."""
    x = with_specials(normal(name, 4, 12, 5, 7), name, share=0.002).to(dtype)
    shape = (7,) if name in ("layer_norm", "rms_norm") else (12,)
    weight, bias = (p.to(own) for p in parameters(name, *shape))
    if name == "layer_norm":
        return x, lambda v, f: f.layer_norm(v, shape, weight, bias, 1e-3)
    if name == "rms_norm":
        return x, lambda v, f: f.rms_norm(v, shape, weight, 1e-3)
    if name == "group_norm":
        return x, lambda v, f: f.group_norm(v, 3, weight, bias, 1e-3)
    return x, lambda v, f: f.instance_norm(v, weight=weight, bias=bias, eps=1e-3)


class OnTensors:
    """The reference's functions under the names of bninv.functional."""

    def __getattr__(self, name: str):
        function = getattr(reference, name)
        return lambda x, *args, **options: reference.on_tensors(function, x, *args, **options)


@floating
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
def test_storage_types(name: str, dtype: torch.dtype) -> None:
    for own in {dtype, torch.float32} if dtype in NARROW else {dtype}:
        x, run = typed(name, dtype, own)
        expected = run(x, OnTensors())
        for layout, view in list(layouts(x))[:3]:
            assert_equals_at_each_level(lambda v=view: run(v, F), expected, f"{own}, {layout}")


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_any_bits(dtype: torch.dtype) -> None:
    """Huge and subnormal numbers overflow and vanish in the sums as the contract says."""
    x = any_bits("x", (64, 37), dtype)
    expected = reference.on_tensors(reference.layer_norm, x, (37,))
    assert_equals_at_each_level(lambda: F.layer_norm(x, 37), expected)
    grouped = x.view(16, 4, 37)
    expected = reference.on_tensors(reference.group_norm, grouped, 2)
    assert_equals_at_each_level(lambda: F.group_norm(grouped, 2), expected)


@pytest.mark.parametrize("missing", ["weight", "bias", "both"])
def test_missing_parameters(missing: str) -> None:
    weight, bias = parameters("missing", 6)
    given = (None if missing != "bias" else weight, None if missing != "weight" else bias)
    x = normal("x", 2, 6, 5, 6)
    expected = reference.on_tensors(reference.layer_norm, x, (6,), *given)
    assert_equals_at_each_level(lambda: F.layer_norm(x, 6, *given), expected)
    expected = reference.on_tensors(reference.group_norm, x, 3, *given)
    assert_equals_at_each_level(lambda: F.group_norm(x, 3, *given), expected)


# One rounding more or less moves few results by one place: it shows in many rows or not at all.
OPERATORS = {
    "layer_norm": ((300, 63), lambda f, x, eps: f.layer_norm(x, (63,), eps=eps)),
    "rms_norm": ((300, 63), lambda f, x, eps: f.rms_norm(x, (63,), eps=eps)),
    "group_norm": ((60, 10, 3, 5), lambda f, x, eps: f.group_norm(x, 5, eps=eps)),
    "instance_norm": ((30, 10, 7, 9), lambda f, x, eps: f.instance_norm(x, eps=eps)),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-5, 1e-3])
def test_many_rows(name: str, eps: float) -> None:
    """With variances about as large as eps, so that how eps is rounded shows as well."""
    shape, run = OPERATORS[name]
    x = normal(name, *shape) * (eps**0.5 or 1)
    expected = run(OnTensors(), x, eps)
    for layout, view in list(layouts(x))[:2]:
        assert_equals_at_each_level(lambda v=view: run(F, v, eps), expected, layout)


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
def test_eps_is_kept_in_float64(eps: float) -> None:
    x = normal("x", 20, 9).double() * eps**0.5
    for name in ("layer_norm", "rms_norm"):
        expected = reference.on_tensors(getattr(reference, name), x, (9,), eps=eps)
        assert_equals_at_each_level(lambda n=name: getattr(F, n)(x, 9, eps=eps), expected)
    expected = reference.on_tensors(reference.group_norm, x.view(5, 4, 9), 2, eps=eps)
    assert_equals_at_each_level(lambda: F.group_norm(x.view(5, 4, 9), 2, eps=eps), expected)


def test_rms_norm_without_eps_uses_the_dtypes() -> None:
    for dtype in FLOATING:
        x = (normal("x", 9, 17) * 1e-3).to(dtype)
        assert_bits(F.rms_norm(x, 17), F.rms_norm(x, 17, eps=torch.finfo(dtype).eps))
    torch.testing.assert_close(F.rms_norm(x.float(), 17), stock.rms_norm(x.float(), (17,)))


# ---- What an expression's order and special values show ------------------------------------------


def test_constant_rows_give_the_bias() -> None:
    """A mean that is exact leaves d = 0, and NaN only where eps is 0 as well."""
    bias = normal("bias", 8)
    x = torch.full((3, 8), 5.0)
    for _, result in at_each_level(lambda: F.layer_norm(x, 8, None, bias)):
        assert_bits(result, bias.expand(3, 8))
    assert F.layer_norm(x, 8, eps=0.0).isnan().all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_special_value_spoils_its_group_alone(value: float) -> None:
    x = normal("x", 2, 6, 4, 5)
    clean = F.group_norm(x, 3)
    x[0, 3, 1, 2] = value
    for name, view in layouts(x):
        result = F.group_norm(view, 3)
        assert result[0, 2:4].isnan().all(), name
        assert_bits(result[0, :2], clean[0, :2], name)
        assert_bits(result[0, 4:], clean[0, 4:], name)
        assert_bits(result[1], clean[1], name)


def test_a_group_of_one_channel_is_instance_norm() -> None:
    x = normal("x", 3, 19, 9, 11)
    values = parameters("x", 19)
    for name, view in layouts(x):
        expected = F.instance_norm(view, None, None, *values)
        assert_bits(F.group_norm(view, 19, *values), expected, name)


def test_group_norm_is_summed_by_channel() -> None:
    """Not the order of layer_norm over the same elements: channels of 9 are summed on their own."""
    x = normal("x", 64, 12, 3, 3)
    group = F.group_norm(x, 1)
    assert not torch.equal(group, F.layer_norm(x, (12, 3, 3)))
    torch.testing.assert_close(group, F.layer_norm(x, (12, 3, 3)))


def test_empty() -> None:
    assert F.layer_norm(torch.ones(0, 3), 3).shape == (0, 3)
    assert F.layer_norm(torch.ones(3, 0), 0).shape == (3, 0)
    assert F.group_norm(torch.ones(2, 4, 0), 2).shape == (2, 4, 0)
    assert F.rms_norm(torch.ones(2, 0, 4), 4).shape == (2, 0, 4)


# ---- batch_norm of one sample --------------------------------------------------------------------


@floating
@pytest.mark.parametrize("k", [2, 9, 27, 576, 4608])
def test_standardized_weights(dtype: torch.dtype, k: int) -> None:
    if dtype == torch.float64 and k > 27:
        pytest.skip("exact rationals are slow")
    weight = normal("weight", 1, 21, k).to(dtype)
    gain = normal("gain", 21).to(dtype)
    options = {"weight": gain, "eps": 1e-6}
    expected = reference.on_tensors(reference.instance_norm, weight, **options)
    assert_equals_at_each_level(
        lambda: F.batch_norm(weight, None, None, training=True, momentum=0.0, **options), expected
    )
    exact = stock.batch_norm(weight.double(), None, None, gain.double(), None, True, 0.0, 1e-6)
    torch.testing.assert_close(expected, exact.to(dtype))


def test_batch_norm_of_one_sample_keeps_channels_last() -> None:
    x = normal("x", 1, 6, 5, 7)
    last = x.contiguous(memory_format=torch.channels_last)
    result = F.batch_norm(last, None, None, training=True)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_bits(result, F.batch_norm(x, None, None, training=True))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 6, 5), {}, "`training`"),
        ((6,), {}, "`training`"),
        ((1, 6, 5), {"running_mean": torch.zeros(6)}, "`running_mean`"),
        ((1, 6, 5), {"running_var": torch.ones(6)}, "`running_var`"),
        ((1, 6, 1), {}, "one element a channel"),
        ((1, 6, 5), {"activation": "relu"}, "`activation`"),
        ((1, 6, 5), {"residual": torch.ones(1, 6, 5)}, "`residual`"),
    ],
    ids=str,
)
def test_batch_norm_in_training_is_refused(shape: tuple, options: dict, message: str) -> None:
    arguments = {"running_mean": None, "running_var": None, **options}
    with pytest.raises(ValueError, match=message):
        F.batch_norm(torch.ones(shape), training=True, **arguments)


def test_instance_norm_by_running_statistics_is_batch_norm() -> None:
    x = normal("x", 3, 6, 5, 7)
    mean, var = normal("mean", 6), normal("var", 6).abs()
    values = parameters("x", 6)
    expected = F.batch_norm(x, mean, var, *values)
    for name, view in layouts(x):
        actual = F.instance_norm(view, mean, var, *values, use_input_stats=False)
        assert_bits(actual, expected, name)
        assert actual.is_contiguous(), name


# ---- Any shape -----------------------------------------------------------------------------------


@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 30),
    st.lists(st.integers(1, 12), max_size=3),
    st.integers(0, 50),
)
def test_any_group_norm(batch: int, groups: int, size: int, pixels: list[int], at: int) -> None:
    shape = (batch, groups * size, *pixels)
    x = with_specials(normal(shape, *shape), shape, share=0.0005)
    values = parameters(shape, groups * size)
    views = list(layouts(x))
    name, view = views[at % len(views)]
    expected = reference.on_tensors(reference.group_norm, x, groups, *values)
    assert_equals_at_each_level(lambda: F.group_norm(view, groups, *values), expected, name)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 50))
def test_any_layer_norm(shape: list[int], count: int, at: int) -> None:
    normalized = shape[-min(count, len(shape)) :]
    x = with_specials(normal(shape, *shape), shape, share=0.0005)
    values = parameters(shape, *normalized)
    views = list(layouts(x))
    name, view = views[at % len(views)]
    expected = reference.on_tensors(reference.layer_norm, x, normalized, *values)
    assert_equals_at_each_level(lambda: F.layer_norm(view, normalized, *values), expected, name)
    expected = reference.on_tensors(reference.rms_norm, x, normalized, values[0])
    assert_equals_at_each_level(lambda: F.rms_norm(view, normalized, values[0], 1e-5), expected)
