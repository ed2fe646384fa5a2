"""Normalization by given statistics: rule R2."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import Activation, BatchStatisticsError, need_tensor, number, promoted
from bninv._autocast import result_dtype
from bninv._memory_format import is_dense
from bninv.modules.base import Patched, drop_and_act, parameter_of
from bninv.modules.fused import After, is_like
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import EPILOGUE, Operator


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
        activation: 'none', 'relu', 'relu6', 'leaky_relu', 'hardswish', 'hardsigmoid' or, not in
            float64, 'silu', 'sigmoid', 'gelu', 'gelu_tanh' or 'tanh'.
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
    epilogue: tuple[Any, ...] = ()
    if residual is not None or activation != "none":
        epilogue = (residual, activation, number(negative_slope, "negative_slope"))
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


# ---- The operator --------------------------------------------------------------------------------


def _fake(input: Tensor, *_: Any) -> Tensor:
    if input.stride(1) == 1 and is_dense(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)


def _draw(draw: Draw) -> list[Any]:
    shape = draw.shape(draw.random.randint(2, 5))
    affine = draw.parameters(shape[1], count=2)
    statistics = draw.statistics(shape[1])
    wide = next((v.dtype for v in affine if v is not None), draw.dtype)
    residual = draw.maybe(draw.input(*shape))
    values = [*(v.to(wide) for v in statistics), *affine]
    return [draw.input(*shape), *values, 1e-5, residual, *draw.epilogue()]


OPERATORS = [
    Operator(
        "batch_norm",
        "(Tensor input, Tensor running_mean, Tensor running_var, Tensor? weight, Tensor? bias, "
        f"float eps, {EPILOGUE}) -> Tensor",
        _fake,
        _draw,
    )
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _aten(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    # The statistics that the other results hold are what a backward needs, which does not exist.
    need(not torch.is_grad_enabled() and not training)
    nothing = input.new_empty(0)
    result = batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return result, nothing, nothing


ATEN: dict[str, Adapter] = {"batch_norm": _aten, "native_batch_norm": _native_batch_norm}
PYTHON: dict[str, Adapter] = {"batch_norm": batch_norm}


# ---- Modules -------------------------------------------------------------------------------------


class _Norm(Patched):
    """What these modules are before whatever follows in them: `normalize`."""

    def normalize(self, input: Tensor) -> Tensor:
        mean, variance, weight, bias, eps = self.statistics()
        return batch_norm(input, mean, variance, weight, bias, eps=eps)

    def statistics(
        self,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, float]:
        """Running mean and variance, weight and bias, and eps."""
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (parameter_of(self, name) for name in names)
        return mean, variance, weight, bias, self.eps  # type: ignore[attr-defined]

    def result_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of what becomes of an input of this dtype."""
        return dtype

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        """`activation(normalize(input) + residual)`; None if one operator cannot do it."""
        if not isinstance(input, Tensor):
            return None
        fits = is_like(after.residual, input.device, input.dtype, input.shape)
        if not fits:
            return None
        if self.result_dtype(input.dtype) is not input.dtype:
            return None
        if after.residual is not None and after.residual.stride() != input.stride():
            return None
        mean, variance, weight, bias, eps = self.statistics()
        if mean is None or variance is None:
            return None
        return batch_norm(input, mean, variance, weight, bias, eps=eps, **after.epilogue)


class BatchNorm(_Norm):
    """BatchNorm1d/2d/3d and SyncBatchNorm, which in eval mode synchronises nothing."""

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if module.running_mean is None or module.running_var is None:
            return (
                "it has no running statistics and normalizes by the batch's own, which move with "
                "the batch"
            )
        return None

    def differs_in_training(self) -> bool:
        return True  # it normalizes by the batch's own statistics

    def invariant_forward(self, input: Tensor) -> Tensor:
        return self.normalize(input)

    def normalize(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[attr-defined]
        return super().normalize(input)

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        if isinstance(input, Tensor):
            self._check_input_dim(input)  # type: ignore[attr-defined]
        return super().fused_forward(input, after)


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
        return batch_norm(input.to(dtype), mean, variance, weight, bias, eps=eps)

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

__all__ = ["Activation", "batch_norm"]
