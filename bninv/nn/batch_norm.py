"""BatchNorm modules of torch.nn, torchvision and timm in eval mode: rule R2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from bninv import functional as F
from bninv._arguments import promoted
from bninv._autocast import result_dtype
from bninv.functional.normalization import Activation
from bninv.nn.base import Patched, drop_and_act
from bninv.nn.fused import has_activation, is_like


class _Norm(Patched):
    """What these modules are before whatever follows in them: `normalize`."""

    def normalize(self, input: Tensor) -> Tensor:
        mean, variance, weight, bias, eps = self.statistics()
        return F.batch_norm(input, mean, variance, weight, bias, eps=eps)

    def statistics(
        self,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, float]:
        """Running mean and variance, weight and bias, and eps."""
        module: Any = self
        return module.running_mean, module.running_var, module.weight, module.bias, module.eps

    def result_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of what becomes of an input of this dtype."""
        return dtype

    def fused_forward(
        self,
        input: Tensor,
        norm: None,
        residual: Tensor | None,
        activation: Activation,
        negative_slope: float,
    ) -> Tensor | None:
        """`activation(normalize(input) + residual)`; None if one operator cannot do it."""
        if not isinstance(input, Tensor):
            return None
        fits = is_like(residual, input.device, input.dtype, input.shape)
        if not (fits and has_activation(input, activation)):
            return None
        if self.result_dtype(input.dtype) is not input.dtype:
            return None
        if residual is not None and residual.stride() != input.stride():
            return None
        mean, variance, weight, bias, eps = self.statistics()
        if mean is None or variance is None:
            return None
        return F.batch_norm(
            input,
            mean,
            variance,
            weight,
            bias,
            eps=eps,
            residual=residual,
            activation=activation,
            negative_slope=negative_slope,
        )


class BatchNorm(_Norm):
    """BatchNorm1d/2d/3d and SyncBatchNorm, which in eval mode synchronises nothing."""

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            return "its shape is not known before its first forward: run the model once, then patch"
        if module.running_mean is None or module.running_var is None:
            return (
                "it has no running statistics and normalizes by the batch's own, which move with "
                "the batch"
            )
        return None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return self.normalize(input)

    def normalize(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[attr-defined]
        return super().normalize(input)

    def fused_forward(self, input: Tensor, *args: Any) -> Tensor | None:
        if isinstance(input, Tensor):
            self._check_input_dim(input)  # type: ignore[attr-defined]
        return super().fused_forward(input, *args)


class BatchNormAct(BatchNorm):
    """timm's BatchNormAct2d, SyncBatchNormAct and SplitBatchNorm2d: then drop, then act."""

    def invariant_forward(self, input: Tensor) -> Tensor:
        return drop_and_act(self, self.normalize(input))


class FrozenBatchNorm(_Norm):
    """torchvision's FrozenBatchNorm2d and timm's FrozenBatchNormAct2d."""

    def invariant_forward(self, x: Tensor) -> Tensor:
        return drop_and_act(self, self.normalize(x))

    def normalize(self, input: Tensor) -> Tensor:
        dtype = self.result_dtype(input.dtype)
        *tensors, eps = self.statistics()
        mean, variance, weight, bias = (None if t is None else t.to(dtype) for t in tensors)
        return F.batch_norm(input.to(dtype), mean, variance, weight, bias, eps=eps)

    def result_dtype(self, dtype: torch.dtype) -> torch.dtype:
        # Stock: `x * (weight * (running_var + eps).rsqrt()) + ...`, in the widest dtype of these.
        mean, variance, weight, bias, _ = self.statistics()
        if variance is not None:
            dtype = promoted(dtype, result_dtype("rsqrt", variance))
        for tensor in (mean, weight, bias):
            if tensor is not None and tensor.dtype is not dtype:
                dtype = promoted(dtype, tensor.dtype)
        return dtype


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.batchnorm._BatchNorm": BatchNorm,
    "torch.nn.modules.batchnorm.SyncBatchNorm": BatchNorm,
    "timm.layers.norm_act.BatchNormAct2d": BatchNormAct,
    "timm.layers.norm_act.SyncBatchNormAct": BatchNormAct,
    "timm.layers.split_batchnorm.SplitBatchNorm2d": BatchNormAct,
    "timm.layers.norm_act.FrozenBatchNormAct2d": FrozenBatchNorm,
    "torchvision.ops.misc.FrozenBatchNorm2d": FrozenBatchNorm,
}
