"""Normalization of channels: by given statistics, rule R2, or by a sample's own, rule R5."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from bninv._arguments import BatchStatisticsError, need_tensor, number
from bninv.functional._call import call, ops

# What may follow an operator in its kernel.
Activation = Literal["none", "relu", "relu6", "silu", "hardswish", "leaky_relu"]


def channel_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each sample's channels by their own mean and variance; channels_last stays channels_last."""
    return call(ops.instance_norm.default, input, weight, bias, number(eps, "eps"))


def need_variance(input: Tensor) -> None:
    """Raise ValueError unless a channel of a sample has more than one element."""
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(
            f"`input` has shape {list(input.shape)}: one element a channel has no variance; it may "
            "be [batch, channels, ...] with more"
        )


def _check_one_sample(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    residual: Tensor | None,
    activation: str,
) -> None:
    need_tensor("input", input)
    if input.dim() < 2 or input.size(0) != 1:
        raise BatchStatisticsError(
            f"`training` is True for an `input` of shape {list(input.shape)}; it may be True for "
            "one sample, [1, channels, ...]: the batch's own statistics move with the batch"
        )
    if running_mean is not None or running_var is not None:
        raise BatchStatisticsError(
            "`running_mean` and `running_var` are given with `training`, which updates them; they "
            "may be None, or `training` False"
        )
    if residual is not None or activation != "none":
        raise ValueError(
            "`residual` and `activation` are given with `training`; they may be left out"
        )
    need_variance(input)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: Activation = "none",
    negative_slope: float = 0.01,
) -> Tensor:
    """Batch normalization by given statistics, rule R2, and what often follows it.

    `s = weight / sqrt(running_var + eps)`, `y = fma(x - running_mean, s, bias)`, s recomputed from
    the parameters at every call; then `activation(y + residual)`. With a residual or an activation
    the bits are those of the separate operators: each boundary rounds to the input's dtype.

    Args:
        input: [batch, channels, ...], any strides; float32, float64, float16 or bfloat16, on the
            CPU or, where bninv was built with CUDA, on a GPU.
        running_mean, running_var: [channels], of the input's dtype, or float32 beside a float16 or
            bfloat16 input.
        weight, bias: likewise; missing ones are 1 and 0.
        training: normalize by the input's own statistics, rule R5: only for an input of one sample,
            such as the weight of a convolution that standardizes its weight, without running
            statistics, residual and activation. The statistics of several samples move with the
            batch.
        momentum: unused, as in torch's eval form.
        eps: added to the variance; rounded first to float32, or kept for a float64 input.
        residual: added to the result; of the input's shape and dtype, any strides.
        activation: 'none', 'relu', 'relu6', 'silu' (not in float64), 'hardswish' or 'leaky_relu'.
        negative_slope: leaky_relu's.

    Returns:
        A tensor of the input's shape and dtype, and of its strides where it is dense with the
        channels fastest or slowest, else contiguous.

    Raises:
        ValueError: `training` is set for more than that, or statistics are missing.
        RuntimeError: a dtype, shape or device does not fit.
    """
    if training:
        _check_one_sample(input, running_mean, running_var, residual, activation)
        return channel_norm(input, weight, bias, eps)
    if running_mean is None or running_var is None:
        raise BatchStatisticsError(
            "`running_mean` and `running_var` are missing; without them batch_norm uses the "
            "batch's own statistics, which move with the batch"
        )
    epilogue = (
        ()
        if residual is None and activation == "none"
        else (
            residual,
            activation,
            number(negative_slope, "negative_slope"),
        )
    )
    return call(
        ops.batch_norm.default,
        input,
        running_mean,
        running_var,
        weight,
        bias,
        number(eps, "eps"),
        *epilogue,
    )
