"""The ways to compute a convolution, alone or with BatchNorm and ReLU, that bench_conv.py times."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import bninv
from benchmarks.common.candidate import Candidate, Switches
from benchmarks.network_convolutions import Convolution
from bninv._memory_format import panel_order

# As they stand in networks first.
OPERATIONS = ("conv_bn_relu", "conv")
# In IEEE arithmetic: the better one is what bninv is held against.
BASELINES = ("stock NCHW", "stock channels_last")
EPS = 1e-5


class Layer(NamedTuple):
    """A convolution's input and weight in the layouts that candidates want, and what follows."""

    x: Tensor
    x_last: Tensor
    weight: Tensor
    weight_last: Tensor
    weight_panel: Tensor  # as `bninv.patch` lays it out
    # BatchNorm folded into a weight and a bias.
    folded_weight: Tensor
    folded_bias: Tensor
    # In the order in which F.batch_norm takes them.
    statistics: tuple[Tensor, Tensor, Tensor, Tensor]


def layer(conv: Convolution, batch: int, dtype: torch.dtype, device: str) -> Layer:
    x = torch.randn(batch, conv.channels, conv.size, conv.size, dtype=dtype, device=device)
    shape = (conv.out_channels, conv.channels // conv.groups, conv.kernel, conv.kernel)
    weight = torch.randn(shape, dtype=dtype, device=device) / conv.terms**0.5
    order = panel_order(weight)
    mean, var, gamma, beta = torch.randn(4, conv.out_channels, dtype=dtype, device=device)
    var = var.abs() + 0.5
    scale = gamma / (var + EPS).sqrt()
    return Layer(
        x,
        x.to(memory_format=torch.channels_last),
        weight,
        weight.to(memory_format=torch.channels_last),
        weight.permute(order).contiguous().permute([order.index(d) for d in range(4)]),
        (weight * scale[:, None, None, None]).to(memory_format=torch.channels_last),
        beta - mean * scale,
        (mean, var, gamma, beta),
    )


def candidates(
    conv: Convolution, operation: str, dtype: torch.dtype, device: str
) -> dict[str, Candidate]:
    """By the name of its column; each is called with a Layer.

    Stock on CUDA runs the fastest algorithm that cuDNN finds for the shape.
    """
    rest = (conv.stride, conv.padding, 1, conv.groups)
    follow = operation == "conv_bn_relu"
    tf32 = (False, True) if device == "cuda" and dtype == torch.float32 else (False,)
    found = {}
    for allowed in tf32:
        switches, tail = Switches(tf32=allowed, benchmark=True), ", TF32" if allowed else ""
        for name, channels_last in zip(BASELINES, (False, True), strict=True):
            run = partial(stock, rest, follow, channels_last)
            found[name + tail] = Candidate(run, switches, baseline=not allowed)
        if follow:
            found[f"folded channels_last{tail}"] = Candidate(partial(folded, rest), switches)
    if follow:
        found["bninv unfused"] = Candidate(partial(unfused, rest))
    return found | {"bninv": Candidate(partial(fused if follow else alone, rest))}


Rest = tuple[int, int, int, int]


def stock(rest: Rest, follow: bool, channels_last: bool, *fields: Any) -> Tensor:
    t = Layer(*fields)
    x, weight = (t.x_last, t.weight_last) if channels_last else (t.x, t.weight)
    y = torch.conv2d(x, weight, None, *rest)
    return F.relu(F.batch_norm(y, *t.statistics, eps=EPS), inplace=True) if follow else y


def folded(rest: Rest, *fields: Any) -> Tensor:
    t = Layer(*fields)
    return F.relu(torch.conv2d(t.x_last, t.folded_weight, t.folded_bias, *rest), inplace=True)


def alone(rest: Rest, *fields: Any) -> Tensor:
    t = Layer(*fields)
    return bninv.functional.conv2d(t.x_last, t.weight_panel, None, *rest)


def unfused(rest: Rest, *fields: Any) -> Tensor:
    y = bninv.functional.batch_norm(alone(rest, *fields), *Layer(*fields).statistics, eps=EPS)
    return bninv.functional.relu(y, inplace=True)


def fused(rest: Rest, *fields: Any) -> Tensor:
    t = Layer(*fields)
    mean, var, gamma, beta = t.statistics
    return bninv.functional.conv2d_fused(
        t.x_last,
        t.weight_panel,
        None,
        *rest,
        running_mean=mean,
        running_var=var,
        norm_weight=gamma,
        norm_bias=beta,
        eps=EPS,
        activation="relu",
    )
