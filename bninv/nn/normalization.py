"""Normalization by a sample's own statistics, of torch.nn, torchvision and timm: rule R5."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from bninv import functional as F
from bninv._arguments import promoted
from bninv._autocast import result_dtype
from bninv.nn.base import Patched, drop_and_act


def _stock_precision(module: Any, x: Tensor, *parameters: Tensor | None) -> tuple[Any, ...]:
    """What timm's `fast norm` does under autocast: no float32, all in the autocast dtype.

    Returns the context for the call, the input and the parameters.
    """
    device = x.device.type
    if not getattr(module, "_fast_norm", False) or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext(), x, *parameters
    dtype = torch.get_autocast_dtype(device)
    cast = [None if p is None else p.to(dtype) for p in parameters]
    return torch.autocast(device, enabled=False), x.to(dtype), *cast


class LayerNorm(Patched):
    """nn.LayerNorm, timm's LayerNorm and LayerNormAct."""

    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def _normalize(self, x: Tensor) -> Tensor:
        context, x, weight, bias = _stock_precision(self, x, self.weight, self.bias)
        with context:
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)

    def invariant_forward(self, input: Tensor) -> Tensor:
        return drop_and_act(self, self._normalize(input))


class LayerNorm2d(LayerNorm):
    """LayerNorm over the channels of NCHW tensors, of torchvision and timm."""

    def invariant_forward(self, x: Tensor) -> Tensor:
        x = self._normalize(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return drop_and_act(self, x)


class LayerNormFp32(LayerNorm):
    """timm's kinds that work in float32 and return the input's dtype."""

    def _normalize(self, x: Tensor) -> Tensor:
        weight, bias = (None if p is None else p.float() for p in (self.weight, self.bias))
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class LayerNorm2dFp32(LayerNormFp32, LayerNorm2d):
    """Both."""


class RMSNorm(Patched):
    """nn.RMSNorm, timm's RmsNorm and RmsNormAct."""

    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    eps: float | None

    def _normalize(self, x: Tensor) -> Tensor:
        context, x, weight = _stock_precision(self, x, self.weight)
        with context:
            return F.rms_norm(x, self.normalized_shape, weight, self.eps)

    def invariant_forward(self, x: Tensor) -> Tensor:
        return drop_and_act(self, self._normalize(x))


class RMSNorm2d(RMSNorm):
    """timm's RmsNorm2d and RmsNormAct2d, over the channels of NCHW tensors."""

    def _normalize(self, x: Tensor) -> Tensor:
        context, x, weight = _stock_precision(self, x, self.weight)
        with context:
            # In timm `x * rsqrt(x.pow(2).mean(1) + eps) * weight`, in the widest dtype of these.
            dtype = result_dtype("pow", x)
            if weight is not None:
                dtype = promoted(dtype, weight.dtype)
                weight = weight.to(dtype)
            return F.rms_norm(x.to(dtype), self.normalized_shape, weight, self.eps)

    def invariant_forward(self, x: Tensor) -> Tensor:
        result = self._normalize(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # The stock one permutes nothing and keeps the memory format.
        return drop_and_act(self, result.contiguous() if x.is_contiguous() else result)


class RMSNormFp32(RMSNorm):
    """timm's kinds that work in float32 and return the input's dtype."""

    def _normalize(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), self.normalized_shape, weight, self.eps).to(x.dtype)


class RMSNorm2dFp32(RMSNormFp32, RMSNorm2d):
    """Both."""


class GroupNorm(Patched):
    """nn.GroupNorm, timm's GroupNorm, GroupNorm1, GroupNormAct and GroupNorm1Act."""

    num_groups: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def invariant_forward(self, input: Tensor) -> Tensor:
        context, x, weight, bias = _stock_precision(self, input, self.weight, self.bias)
        with context:
            x = F.group_norm(x, self.num_groups, weight, bias, self.eps)
        return drop_and_act(self, x)


class InstanceNorm(Patched):
    """InstanceNorm1d/2d/3d; with running statistics it normalizes by these (R2)."""

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            return "its shape is not known before its first forward: run the model once, then patch"
        return None

    def invariant_forward(self, input: Tensor) -> Tensor:
        # The module's own forward checks the input and adds a missing batch dimension; what it
        # computes goes through this method.
        return super(Patched, self).forward(input)  # type: ignore[misc]

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        module: Any = self
        if self.training:  # type: ignore[attr-defined]
            return super()._apply_instance_norm(input)  # type: ignore[misc]
        tracked = module.track_running_stats
        return F.instance_norm(
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
    _TORCH + "LayerNorm": LayerNorm,
    _TORCH + "GroupNorm": GroupNorm,
    _TORCH + "RMSNorm": RMSNorm,
    "torch.nn.modules.instancenorm._InstanceNorm": InstanceNorm,
    "torchvision.models.convnext.LayerNorm2d": LayerNorm2d,
    _TIMM + "LayerNorm": LayerNorm,
    _TIMM + "LayerNormFp32": LayerNormFp32,
    _TIMM + "LayerNorm2d": LayerNorm2d,
    _TIMM + "LayerNormExp2d": LayerNorm2d,
    _TIMM + "LayerNorm2dFp32": LayerNorm2dFp32,
    _TIMM + "GroupNorm": GroupNorm,
    _TIMM + "GroupNorm1": GroupNorm,
    _TIMM + "RmsNorm": RMSNorm,
    _TIMM + "RmsNormFp32": RMSNormFp32,
    _TIMM + "RmsNorm2d": RMSNorm2d,
    _TIMM + "RmsNorm2dFp32": RMSNorm2dFp32,
    _TIMM_ACT + "LayerNormAct": LayerNorm,
    _TIMM_ACT + "LayerNormActFp32": LayerNormFp32,
    _TIMM_ACT + "LayerNormAct2d": LayerNorm2d,
    _TIMM_ACT + "LayerNormAct2dFp32": LayerNorm2dFp32,
    _TIMM_ACT + "GroupNormAct": GroupNorm,
    _TIMM_ACT + "GroupNorm1Act": GroupNorm,
    _TIMM_ACT + "RmsNormAct": RMSNorm,
    _TIMM_ACT + "RmsNormActFp32": RMSNormFp32,
    _TIMM_ACT + "RmsNormAct2d": RMSNorm2d,
    _TIMM_ACT + "RmsNormAct2dFp32": RMSNorm2dFp32,
}
