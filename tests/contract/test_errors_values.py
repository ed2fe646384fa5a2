"""Bad shapes and values get an error that names the argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.calls import STATISTICS, assert_refused, call
from tests.support.properties import assert_bits, normal


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("conv2d", "weight", normal("w", 4, 5, 3, 3)),
        ("conv2d", "weight", normal("w", 4, 6, 3)),
        ("conv2d", "weight", normal("w", 4, 6, 3, 3, 1)),
        ("conv2d", "weight", torch.ones(4, 6, 0, 3)),
        ("conv2d", "bias", normal("b", 5)),
        ("conv2d", "bias", normal("b", 4, 1)),
        ("conv2d", "bias", torch.tensor(1.0)),
        ("conv2d", "input", normal("x", 2, 5, 5, 7)),
        ("conv2d", "input", normal("x", 6, 7)),
        ("conv2d", "input", normal("x", 2, 6, 5, 7, 1)),
        ("conv1d", "weight", normal("w", 4, 5, 3)),
        ("conv1d", "weight", normal("w", 4, 6, 3, 1)),
        ("conv1d", "input", normal("x", 2, 6, 5, 7)),
        ("conv1d", "bias", normal("b", 3)),
        ("linear", "weight", normal("w", 4, 5)),
        ("linear", "weight", normal("w", 4, 6, 1)),
        ("linear", "input", normal("x", 3, 7)),
        ("linear", "input", torch.tensor(1.0)),
        ("linear", "bias", normal("b", 3)),
        ("linear", "bias", normal("b", 3, 4)),
        *(("batch_norm", k, normal("p", 5)) for k in STATISTICS),
        *(("batch_norm", k, normal("p", 6, 1)) for k in STATISTICS),
        ("batch_norm", "input", normal("x", 2, 5, 5, 7)),
        ("batch_norm", "input", normal("x", 6)),
        ("max_pool2d", "input", normal("x", 5, 7)),
        ("max_pool1d", "input", normal("x", 5)),
        ("avg_pool2d", "input", normal("x", 2, 3, 4, 5, 6)),
        ("adaptive_avg_pool2d", "input", normal("x", 5, 7)),
        ("adaptive_max_pool1d", "input", normal("x", 5)),
        ("adaptive_avg_pool2d", "input", torch.ones(2, 3, 0, 4)),
        ("max_pool2d", "input", torch.ones(2, 3, 0, 4)),
    ],
    ids=lambda v: str(tuple(v.shape)) if isinstance(v, Tensor) else v,
)
def test_wrong_shape(name: str, argument: str, value: Tensor) -> None:
    """What stock PyTorch refuses too. A mismatch of two arguments may name either."""
    message = assert_refused(
        name, "(input|weight|bias|running_mean|running_var)", **{argument: value}
    )
    if argument != "input":
        assert argument in message


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        *(
            (name, argument, value)
            for name in ("conv1d", "conv2d")
            for argument, value in (
                ("stride", 0),
                ("stride", -1),
                ("padding", -1),
                ("padding", "full"),
                ("dilation", 0),
                ("dilation", -2),
                ("groups", 0),
                ("groups", -1),
                ("groups", 4),
                ("stride", (1, 1, 1)),
                ("padding", (1, 1, 1)),
                ("dilation", (1, 1, 1)),
                ("stride", 1.5),
                ("padding", None),
                ("dilation", 2**62),
                ("dilation", 2**63 - 1),
                ("padding", 2**62),
                ("padding", 2**63 - 1),
                ("groups", 2**62),
            )
        ),
        ("conv2d", "stride", (1, 0)),
        ("conv2d", "padding", (0, -1)),
        ("conv2d", "stride", ()),
        *(
            (name, argument, value)
            for name in ("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
            for argument, value in (
                ("kernel_size", 0),
                ("kernel_size", -1),
                ("kernel_size", (1, 1, 1)),
                ("stride", 0),
                ("stride", -1),
                ("padding", -1),
                ("padding", 2),
            )
        ),
        ("max_pool2d", "dilation", 0),
        ("max_pool1d", "dilation", -1),
        ("avg_pool2d", "divisor_override", 0),
        ("adaptive_avg_pool2d", "output_size", -1),
        ("adaptive_avg_pool2d", "output_size", (1, 2, 3)),
        ("adaptive_max_pool2d", "output_size", (2, -2)),
        ("adaptive_avg_pool1d", "output_size", -1),
        ("mean", "dim", 4),
        ("mean", "dim", -5),
        ("sum", "dim", (1, 1)),
        ("sum", "dim", (1, -3)),
        ("gelu", "approximate", "erf"),
        ("batch_norm", "eps", "small"),
        *(
            (name, "normalized_shape", value)
            for name in ("layer_norm", "rms_norm")
            for value in (5, (), (3, 6, 6), -6, 6.5)
        ),
        ("layer_norm", "eps", None),
        ("rms_norm", "eps", "small"),
        *(("group_norm", "num_groups", value) for value in (0, -1, 4, 2**62, 1.5)),
        *(
            (name, "dim", value)
            for name in ("softmax", "log_softmax", "cumsum")
            for value in (4, -5, None)
        ),
    ],
    ids=str,
)
def test_wrong_value(name: str, argument: str, value: Any) -> None:
    assert_refused(name, argument, **{argument: value})


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("conv2d", {"input": normal("x", 2, 6, 2, 7)}),
        ("conv2d", {"dilation": 3}),
        ("conv1d", {"input": normal("x", 2, 6, 2)}),
        ("max_pool2d", {"kernel_size": (6, 1)}),
        ("avg_pool2d", {"kernel_size": (1, 8)}),
        ("max_pool2d", {"dilation": 4}),
        ("max_pool1d", {"kernel_size": 10}),
        ("avg_pool1d", {"kernel_size": 10}),
    ],
    ids=str,
)
def test_output_would_be_empty(name: str, changed: dict[str, Any]) -> None:
    assert_refused(name, r"(kernel|kernel_size|weight|input|output)", **changed)


def test_padding_same_needs_stride_one() -> None:
    assert_refused("conv2d", "(padding|stride)", padding="same", stride=2)


def test_batch_norm_needs_statistics_and_eval() -> None:
    assert_refused("batch_norm", "running_mean", running_mean=None)
    assert_refused("batch_norm", "running_var", running_var=None)
    assert_refused("batch_norm", "training", training=True)


def test_groups_that_do_not_divide() -> None:
    assert_refused("conv2d", "groups", groups=4, weight=normal("w", 4, 1, 3, 3))
    assert_refused("conv2d", "groups", groups=3, weight=normal("w", 4, 2, 3, 3))


def test_huge_strides_are_right() -> None:
    """One window fits along each dimension, whatever the stride; nothing overflows."""
    for name in ("conv2d", "max_pool2d", "avg_pool2d"):
        modes = ({},) if name == "conv2d" else ({"ceil_mode": False}, {"ceil_mode": True})
        for options in modes:
            expected = call(name, stride=1000, **options)
            for stride in (2**31, 2**40, 2**62, 2**63 - 1):
                result = call(name, stride=stride, **options)
                assert_bits(result, expected, f"{name}, stride {stride}, {options}")
