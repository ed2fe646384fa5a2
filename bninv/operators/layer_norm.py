"""Normalization of a sample's last dimensions by their own statistics: rule R5."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor, number, promoted
from bninv._autocast import result_dtype
from bninv.modules.base import Patched, drop_and_act, parameter_of
from bninv.operators import fakes
from bninv.operators.adapters import Adapter
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw, rows
from bninv.operators.operator import Operator


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


# ---- The operators -------------------------------------------------------------------------------


def _draw_layer_norm(draw: Draw) -> list[Any]:
    x, normalized = rows(draw)
    return [x, normalized, *draw.parameters(*normalized, count=2), 1e-5]


def _draw_rms_norm(draw: Draw) -> list[Any]:
    x, normalized = rows(draw)
    return [x, normalized, *draw.parameters(*normalized, count=1), 1e-6]


OPERATORS = [
    Operator(
        "layer_norm",
        "(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> Tensor",
        fakes.contiguous,
        _draw_layer_norm,
    ),
    Operator(
        "rms_norm",
        "(Tensor input, int[] normalized_shape, Tensor? weight, float eps) -> Tensor",
        fakes.keeps_channels_last,
        _draw_rms_norm,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _aten_layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return layer_norm(input, normalized_shape, weight, bias, eps)


ATEN: dict[str, Adapter] = {"layer_norm": _aten_layer_norm, "rms_norm": rms_norm}
PYTHON: dict[str, Adapter] = {"layer_norm": layer_norm, "rms_norm": rms_norm}


# ---- Modules -------------------------------------------------------------------------------------


def stock_precision(module: Any, x: Tensor, *parameters: Tensor | None) -> tuple[Any, ...]:
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
        if not self.__dict__.get("_fast_norm", False):  # not asked of nn.Module's __getattr__
            weight, bias = parameter_of(self, "weight"), parameter_of(self, "bias")
            return layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        context, x, weight, bias = stock_precision(self, x, self.weight, self.bias)
        with context:
            return layer_norm(x, self.normalized_shape, weight, bias, self.eps)

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
        return layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class LayerNorm2dFp32(LayerNormFp32, LayerNorm2d):
    """Both."""


class RMSNorm(Patched):
    """nn.RMSNorm, timm's RmsNorm and RmsNormAct."""

    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    eps: float | None

    def _normalize(self, x: Tensor) -> Tensor:
        context, x, weight = stock_precision(self, x, self.weight)
        with context:
            return rms_norm(x, self.normalized_shape, weight, self.eps)

    def invariant_forward(self, x: Tensor) -> Tensor:
        return drop_and_act(self, self._normalize(x))


class RMSNorm2d(RMSNorm):
    """timm's RmsNorm2d and RmsNormAct2d, over the channels of NCHW tensors."""

    def _normalize(self, x: Tensor) -> Tensor:
        context, x, weight = stock_precision(self, x, self.weight)
        with context:
            # In timm `x * rsqrt(x.pow(2).mean(1) + eps) * weight`, in the widest dtype of these.
            dtype = result_dtype("pow", x)
            if weight is not None:
                dtype = promoted(dtype, weight.dtype)
                weight = weight.to(dtype)
            return rms_norm(x.to(dtype), self.normalized_shape, weight, self.eps)

    def invariant_forward(self, x: Tensor) -> Tensor:
        result = self._normalize(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # The stock one permutes nothing and keeps the memory format.
        return drop_and_act(self, result.contiguous() if x.is_contiguous() else result)


class RMSNormFp32(RMSNorm):
    """timm's kinds that work in float32 and return the input's dtype."""

    def _normalize(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        return rms_norm(x.float(), self.normalized_shape, weight, self.eps).to(x.dtype)


class RMSNorm2dFp32(RMSNormFp32, RMSNorm2d):
    """Both."""


_TORCH = "torch.nn.modules.normalization."
_TIMM = "timm.layers.norm."
_TIMM_ACT = "timm.layers.norm_act."

KINDS: dict[str, type[Patched]] = {
    _TORCH + "LayerNorm": LayerNorm,
    _TORCH + "RMSNorm": RMSNorm,
    "torchvision.models.convnext.LayerNorm2d": LayerNorm2d,
    _TIMM + "LayerNorm": LayerNorm,
    _TIMM + "LayerNormFp32": LayerNormFp32,
    _TIMM + "LayerNorm2d": LayerNorm2d,
    _TIMM + "LayerNormExp2d": LayerNorm2d,
    _TIMM + "LayerNorm2dFp32": LayerNorm2dFp32,
    _TIMM + "RmsNorm": RMSNorm,
    _TIMM + "RmsNormFp32": RMSNormFp32,
    _TIMM + "RmsNorm2d": RMSNorm2d,
    _TIMM + "RmsNorm2dFp32": RMSNorm2dFp32,
    _TIMM_ACT + "LayerNormAct": LayerNorm,
    _TIMM_ACT + "LayerNormActFp32": LayerNormFp32,
    _TIMM_ACT + "LayerNormAct2d": LayerNorm2d,
    _TIMM_ACT + "LayerNormAct2dFp32": LayerNorm2dFp32,
    _TIMM_ACT + "RmsNormAct": RMSNorm,
    _TIMM_ACT + "RmsNormActFp32": RMSNormFp32,
    _TIMM_ACT + "RmsNormAct2d": RMSNorm2d,
    _TIMM_ACT + "RmsNormAct2dFp32": RMSNorm2dFp32,
}

__all__ = ["layer_norm", "rms_norm"]
