"""Normalization of groups of channels by a sample's own statistics: rule R5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv._arguments import BatchStatisticsError, integers, need_tensor, number
from bninv.modules.base import Patched, drop_and_act
from bninv.operators import fakes
from bninv.operators.adapters import Adapter
from bninv.operators.batch_norm import batch_norm, channel_norm, need_variance
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.layer_norm import stock_precision
from bninv.operators.operator import Operator


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


# ---- The operators -------------------------------------------------------------------------------


def _draw_group_norm(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(2, 4)))
    channels = x.size(1)
    groups = draw.random.choice([n for n in range(1, channels + 1) if channels % n == 0])
    return [x, groups, *draw.parameters(channels, count=2), 1e-5]


def _draw_instance_norm(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(3, 4)))
    return [x, *draw.parameters(x.size(1), count=2), 1e-5]


OPERATORS = [
    Operator(
        "group_norm",
        "(Tensor input, int num_groups, Tensor? weight, Tensor? bias, float eps) -> Tensor",
        fakes.keeps_channels_last,
        _draw_group_norm,
    ),
    Operator(
        "instance_norm",
        "(Tensor input, Tensor? weight, Tensor? bias, float eps) -> Tensor",
        fakes.keeps_channels_last,
        _draw_instance_norm,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _aten_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return group_norm(input, num_groups, weight, bias, eps)


def _aten_instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


ATEN: dict[str, Adapter] = {
    "group_norm": _aten_group_norm,
    "instance_norm": _aten_instance_norm,
}
PYTHON: dict[str, Adapter] = {"group_norm": group_norm, "instance_norm": instance_norm}


# ---- Modules -------------------------------------------------------------------------------------


class GroupNorm(Patched):
    """nn.GroupNorm, timm's GroupNorm, GroupNorm1, GroupNormAct and GroupNorm1Act."""

    num_groups: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def invariant_forward(self, input: Tensor) -> Tensor:
        context, x, weight, bias = stock_precision(self, input, self.weight, self.bias)
        with context:
            x = group_norm(x, self.num_groups, weight, bias, self.eps)
        return drop_and_act(self, x)


class InstanceNorm(Patched):
    """InstanceNorm1d/2d/3d; with running statistics it normalizes by these (R2)."""

    def differs_in_training(self) -> bool:
        return bool(self.track_running_stats)  # type: ignore[attr-defined]

    def invariant_forward(self, input: Tensor) -> Tensor:
        # The module's own forward checks the input and adds a missing batch dimension; what it
        # computes goes through this method.
        return super(Patched, self).forward(input)  # type: ignore[misc]

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        module: Any = self
        tracked = module.track_running_stats
        if module.training and (torch.is_grad_enabled() or tracked):
            return super()._apply_instance_norm(input)  # type: ignore[misc]
        return instance_norm(
            input,
            module.running_mean if tracked else None,
            module.running_var if tracked else None,
            module.weight,
            module.bias,
            use_input_stats=not tracked,
            eps=module.eps,
        )


_TORCH = "torch.nn.modules.normalization."
_TIMM = "timm.layers.norm."
_TIMM_ACT = "timm.layers.norm_act."

KINDS: dict[str, type[Patched]] = {
    _TORCH + "GroupNorm": GroupNorm,
    "torch.nn.modules.instancenorm._InstanceNorm": InstanceNorm,
    _TIMM + "GroupNorm": GroupNorm,
    _TIMM + "GroupNorm1": GroupNorm,
    _TIMM_ACT + "GroupNormAct": GroupNorm,
    _TIMM_ACT + "GroupNorm1Act": GroupNorm,
}

__all__ = ["group_norm", "instance_norm"]
