"""Products with an epilogue have the bits of the operators one after another: R2.

Each of the CPU's kernels finishes its results in a place of its own, so each one meets every kind
of epilogue, at shapes that leave vectors, tiles and blocks partly filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import bninv.functional as F
from bninv import _arguments
from tests.support.pairs import every_pair
from tests.support.properties import (
    any_bits,
    assert_bits,
    at_each_level,
    normal,
    positive,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING, NARROW

Options = dict[str, Any]

# Input, weight, options. Which kernel runs an odd number of groups depends on the vectors' width.
PROBLEMS = {
    "tiles": ((2, 5, 4, 3), (35, 5, 3, 2), {"padding": 1}),
    "tiles of few channels": ((2, 9, 3, 4), (5, 9, 1, 1), {}),
    "tiles, two segments": ((1, 131, 3, 2), (17, 131, 1, 1), {}),
    "wide groups": ((1, 6, 4, 3), (140, 3, 2, 2), {"groups": 2}),
    "odd groups": ((2, 10, 3, 3), (15, 2, 3, 2), {"groups": 5, "padding": 1}),
    "depthwise": ((2, 19, 4, 3), (19, 1, 3, 3), {"groups": 19, "padding": 1}),
    "depthwise, few channels": ((2, 3, 4, 3), (3, 1, 3, 3), {"groups": 3}),
    "depthwise, many channels": ((1, 83, 4, 5), (83, 1, 2, 2), {"groups": 83, "stride": 2}),
    "groups of a vector": ((2, 10, 3, 3), (32, 5, 2, 2), {"groups": 2}),
    "groups of vectors": ((1, 6, 3, 5), (64, 3, 1, 2), {"groups": 2}),
    "whole groups": ((2, 76, 3, 3), (76, 4, 2, 2), {"groups": 19}),
    "lanes of any group": ((2, 15, 3, 3), (40, 3, 2, 2), {"groups": 5}),
}
ACTIVATIONS = list(_arguments.ACTIVATIONS)
SLOPE = -0.3


def norms(channels: int, dtype: torch.dtype) -> Iterator[tuple[str, Options]]:
    """Statistics and parameters of batch_norm, by conv2d_fused's names."""
    values = {
        "running_mean": normal("mean", channels),
        "running_var": positive("variance", channels),
        "norm_weight": with_specials(normal("weight", channels)),
        "norm_bias": with_specials(normal("bias", channels)),
    }
    own = {name: value.to(dtype) for name, value in values.items()}
    statistics = {name: own[name] for name in ("running_mean", "running_var")}
    yield "no norm", {}
    yield "norm", {**own, "eps": 1e-3}
    yield "norm without bias", {**statistics, "norm_weight": own["norm_weight"]}
    yield "norm without weight", {**statistics, "norm_bias": own["norm_bias"]}
    yield "norm of statistics", statistics
    if dtype in NARROW:
        yield "norm in float32", values


def activate(y: Tensor, activation: str, slope: float) -> Tensor:
    if activation == "none":
        return y
    if activation == "leaky_relu":
        return F.leaky_relu(y, slope)
    if activation == "gelu_tanh":
        return F.gelu(y, "tanh")
    return getattr(F, activation)(y)


def one_after_another(
    y: Tensor, norm: Options, residual: Tensor | None, activation: str, slope: float = SLOPE
) -> Tensor:
    if norm:
        y = F.batch_norm(
            y,
            norm["running_mean"],
            norm["running_var"],
            norm.get("norm_weight"),
            norm.get("norm_bias"),
            eps=norm.get("eps", 1e-5),
        )
    if residual is not None:
        y = y + residual
    return activate(y, activation, slope)


def residual_of(y: Tensor) -> Tensor:
    return torch.empty_like(y).copy_(with_specials(normal("residual", *y.shape).to(y.dtype)))


RESIDUALS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "no residual": lambda y: None,
    "residual": residual_of,
    "residual laid out otherwise": lambda y: (
        residual_of(y).transpose(0, 1).contiguous().transpose(0, 1)
    ),
}


def assert_at_each_level(
    run: Callable[[], Tensor], expected: Tensor, message: str, threads: int
) -> None:
    torch.set_num_threads(threads)
    for level, found in at_each_level(run):
        assert_bits(found, expected, f"{message}, level {level}, {threads} threads")
        assert found.stride() == expected.stride()


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("name", PROBLEMS)
def test_conv2d(name: str, dtype: torch.dtype) -> None:
    shape, weight_shape, options = PROBLEMS[name]
    x = with_specials(normal("x", *shape).to(dtype), share=0.01)
    weight = normal("w", *weight_shape).to(dtype)
    bias = with_specials(normal("b", weight_shape[0]).to(dtype))
    channels = weight_shape[0]
    layouts = {
        f: x.contiguous(memory_format=f) for f in (torch.channels_last, torch.contiguous_format)
    }
    for memory_format, shift, (norm, parameters), rest, activation, threads in every_pair(
        list(layouts),
        [None, bias],
        list(norms(channels, dtype)),
        list(RESIDUALS),
        ACTIVATIONS,
        [1, 2],
    ):
        x = layouts[memory_format]
        y = F.conv2d(x, weight, shift, **options)
        assert y.is_contiguous(memory_format=memory_format)
        after: Options = {
            **parameters,
            "residual": RESIDUALS[rest](y),
            "activation": activation,
            "negative_slope": SLOPE,
        }
        assert_at_each_level(
            lambda x=x, s=shift, a=after: F.conv2d_fused(x, weight, s, **options, **a),
            one_after_another(y, parameters, after["residual"], activation),
            f"{norm}, {rest}, {activation}, {memory_format}",
            threads,
        )


BLOCKS = {
    "row and column blocks": ((2, 3, 10, 11), (530, 3, 1, 1), {}),
    "blocks of groups": ((1, 12, 15, 14), (210, 4, 1, 1), {"groups": 3}),
    "rows of depthwise": ((2, 70, 17, 19), (70, 1, 3, 3), {"groups": 70, "padding": 1}),
    "blocks of narrow groups": ((2, 160, 9, 11), (160, 8, 3, 3), {"groups": 20, "padding": 1}),
    "blocks of wide vectors": ((2, 24, 9, 11), (192, 4, 3, 3), {"groups": 6, "padding": 1}),
}


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_has_its_own_channels(name: str, dtype: torch.dtype) -> None:
    """A thread's tasks begin and end at any of them; the parameters are those of their channels."""
    shape, weight_shape, options = BLOCKS[name]
    x = normal("x", *shape).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = normal("w", *weight_shape).to(dtype), normal("b", weight_shape[0]).to(dtype)
    y = F.conv2d(x, weight, bias, **options)
    residual = normal("residual", *y.shape).to(dtype)
    parameters = dict(norms(weight_shape[0], dtype))["norm"]
    expected = one_after_another(y, parameters, residual, "hardswish")
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        for level, found in at_each_level(
            lambda: F.conv2d_fused(
                x, weight, bias, **options, **parameters, residual=residual, activation="hardswish"
            )
        ):
            assert_bits(found, expected, f"level {level}, {threads} threads")


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize(
    ("shape", "columns"),
    [((1, 7), 5), ((5, 140), 35), ((2, 3, 20), 130), ((200, 9), 70), ((30, 130), 530)],
    ids=str,
)
def test_linear(shape: tuple[int, ...], columns: int, dtype: torch.dtype) -> None:
    x = with_specials(normal("x", *shape).to(dtype), share=0.01)
    weight = normal("w", columns, shape[-1]).to(dtype)
    bias = with_specials(normal("b", columns).to(dtype))
    for shift, rest, activation, threads in every_pair(
        [None, bias], list(RESIDUALS), ACTIVATIONS, [1, 2]
    ):
        y = F.linear(x, weight, shift)
        residual = RESIDUALS[rest](y)
        assert_at_each_level(
            lambda s=shift, r=residual, a=activation: F.linear_fused(
                x, weight, s, residual=r, activation=a, negative_slope=SLOPE
            ),
            one_after_another(y, {}, residual, activation),
            f"{rest}, {activation}",
            threads,
        )


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_any_bits(dtype: torch.dtype) -> None:
    """Infinite, subnormal and huge numbers in every place, and a slope of every kind."""
    x, weight = any_bits("x", (2, 19, 4, 4), dtype), any_bits("w", (19, 1, 1, 1), dtype)
    names = ("running_mean", "running_var", "norm_weight", "norm_bias")
    parameters: Options = {name: any_bits(name, (19,), dtype) for name in names}
    residual = any_bits("residual", (2, 19, 4, 4), dtype)
    for groups in (1, 19):
        w = weight.expand(19, 19 // groups, 1, 1)
        y = F.conv2d(x, w, groups=groups)
        for slope in (0.0, -0.0, 1e-40, 2.0, float("inf"), float("nan")):
            after: Options = {"activation": "leaky_relu", "negative_slope": slope}
            for threads in (1, 2):
                assert_at_each_level(
                    lambda w=w, g=groups, a=after: F.conv2d_fused(
                        x, w, groups=g, **parameters, residual=residual, **a
                    ),
                    one_after_another(y, parameters, residual, "leaky_relu", slope),
                    f"{groups} groups, slope {slope}",
                    threads,
                )


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_each_boundary_rounds(dtype: torch.dtype) -> None:
    """In 16 bits a chain that rounds only at its end is another result: the tests here see that."""
    x, weight = normal("x", 2, 20, 9, 9), normal("w", 40, 20, 1, 1)
    parameters = dict(norms(40, torch.float32))["norm of statistics"]
    residual = normal("residual", 2, 40, 9, 9).to(dtype)
    x, weight = x.to(dtype), weight.to(dtype)
    separate = one_after_another(F.conv2d(x, weight), parameters, residual, "none")
    fused = F.conv2d_fused(x, weight, **parameters, residual=residual)
    assert_bits(fused, separate)
    wide = F.conv2d(x.float(), weight.float())
    once = one_after_another(wide, parameters, residual.float(), "none").to(dtype)
    assert (fused != once).any()
