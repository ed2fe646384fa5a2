"""Normalization by a sample's own statistics: rule R5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bninv._arguments import BatchStatisticsError, integers, need_tensor, number
from bninv.functional._call import call, ops
from bninv.functional.normalization import batch_norm, channel_norm, need_variance


def _shape(normalized_shape: int | Sequence[int]) -> list[int]:
    count = len(normalized_shape) if isinstance(normalized_shape, Sequence) else 1
    return integers(normalized_shape, count, "normalized_shape")


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization over the last dimensions, rule R5.

    `d = x - mean`, `r = 1 / sqrt(var + eps)`, `y = fma(d * r, weight, bias)`; mean and variance are
    R3 sums over the normalized elements, divided by their number.

    Args:
        input: any strides; float32, float64, float16 or bfloat16, on the CPU.
        normalized_shape: the last sizes of `input`.
        weight, bias: of that shape and the input's dtype, or float32 beside a float16 or bfloat16
            input; missing ones are 1 and 0.
        eps: added to the variance; rounded first to float32, or kept for a float64 input.

    Returns:
        A contiguous tensor of the input's shape and dtype.

    Raises:
        RuntimeError: a dtype, shape or device does not fit.
    """
    return call(
        ops.layer_norm.default, input, _shape(normalized_shape), weight, bias, number(eps, "eps")
    )


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Root mean square normalization over the last dimensions, rule R5 without a mean.

    Arguments as `layer_norm`'s; eps None is `torch.finfo(input.dtype).eps`. The result is
    channels_last where the input is, else contiguous.
    """
    need_tensor("input", input)
    if eps is None:
        eps = torch.finfo(input.dtype).eps if input.is_floating_point() else 0.0
    return call(ops.rms_norm.default, input, _shape(normalized_shape), weight, number(eps, "eps"))


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group normalization, rule R5: a sum is R3 over each channel's pixels, then over channels.

    Args:
        input: [batch, channels, ...], any strides; dtypes as `layer_norm`'s.
        num_groups: a divisor of the number of channels.
        weight, bias: [channels]; dtypes as `layer_norm`'s. Missing ones are 1 and 0.
        eps: added to the variance; rounded first to float32, or kept for a float64 input.

    Returns:
        A tensor of the input's shape and dtype: channels_last where the input is, else contiguous.

    Raises:
        RuntimeError: a dtype, shape or device does not fit.
    """
    [groups] = integers(num_groups, 1, "num_groups")
    return call(ops.group_norm.default, input, groups, weight, bias, number(eps, "eps"))


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalization: each sample's channels by their own statistics, rule R5.

    With `use_input_stats=False` it is `batch_norm` by the running statistics, rule R2.

    Args:
        input: [batch, channels, ...], any strides; dtypes as `layer_norm`'s.
        running_mean, running_var: [channels]; needed for, and only for, `use_input_stats=False`.
        weight, bias: [channels]; dtypes as `layer_norm`'s. Missing ones are 1 and 0.
        use_input_stats: whether the statistics are the sample's own.
        momentum: unused: no running statistics are updated.
        eps: added to the variance; rounded first to float32, or kept for a float64 input.

    Returns:
        A contiguous tensor of the input's shape and dtype.

    Raises:
        ValueError: running statistics would have to be updated, or a channel has one element.
        RuntimeError: a dtype, shape or device does not fit.
    """
    need_tensor("input", input)
    if not use_input_stats:
        return batch_norm(
            input, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        ).contiguous()
    if running_mean is not None or running_var is not None:
        raise BatchStatisticsError(
            "`running_mean` and `running_var` are given with `use_input_stats`, which updates "
            "them; they may be None, or `use_input_stats` False"
        )
    need_variance(input)
    return channel_norm(input, weight, bias, eps).contiguous()
