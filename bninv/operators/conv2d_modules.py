"""Convolution modules of torch.nn and timm: rule R1; R5 for standardized weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._autocast import result_dtype
from bninv.modules.base import Patched, parameter_of, precision_of
from bninv.modules.fused import After, is_like
from bninv.operators.batch_norm import batch_norm
from bninv.operators.conv2d import conv1d, conv2d, conv2d_fused


def pad_same(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    value: float = 0.0,
) -> Tensor:
    """TensorFlow's 'SAME' padding as timm applies it: the odd element at the end."""
    amounts: list[int] = []
    for i in (1, 0):  # F.pad takes the last dimension first
        size, step = input.shape[i - 2], stride[i]
        reach = (kernel_size[i] - 1) * dilation[i] + 1
        total = max((math.ceil(size / step) - 1) * step + reach - size, 0)
        amounts += [total // 2, total - total // 2]
    return torch.nn.functional.pad(input, amounts, value=value)


_NO_NORM = (None, None, None, None, 1e-5)  # in the place of a norm's `statistics`


class ConvKind(Patched):
    panel_parameters = ("weight",)
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    padding_mode: str
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        owner = next(c for c in type(module).__mro__ if "_conv_forward" in vars(c))
        if owner.__module__ != "torch.nn.modules.conv":
            return f"{owner.__qualname__} overrides _conv_forward, which bninv does not know"
        return None

    def convolve(self, function: Any, input: Tensor, **how: Any) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            # Moves data and rounds nothing; PyTorch keeps the amounts in this attribute.
            amounts = self._reversed_padding_repeated_twice  # type: ignore[attr-defined]
            input = torch.nn.functional.pad(input, amounts, mode=self.padding_mode)
            padding = 0
        weight, bias = parameter_of(self, "weight"), parameter_of(self, "bias")
        where = self.stride, padding, self.dilation, self.groups
        result: Tensor = function(input, weight, bias, *where, **how)
        return result

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        """`activation(norm(forward(input)) + residual)`; None if one operator cannot do it."""
        norm, residual = after.norm, after.residual
        padding: Any = self.padding
        if not isinstance(input, Tensor):
            return None
        fits = input.dim() == 4 and self.padding_mode == "zeros" and type(padding) is tuple
        if not fits:
            return None
        dtype = result_dtype("conv2d", input)
        if norm is not None and norm.result_dtype(dtype) is not dtype:
            return None
        if residual is not None:
            shape = self._output_shape(input, padding)
            if not is_like(residual, input.device, dtype, shape):
                return None
            # Otherwise the sum is laid out like its first operand, which may be the residual.
            if not residual.is_contiguous(memory_format=torch.channels_last):
                return None
        mean, variance, weight, bias, eps = _NO_NORM if norm is None else norm.statistics()
        if norm is not None and (mean is None or variance is None):
            return None
        return conv2d_fused(
            input,
            parameter_of(self, "weight"),
            parameter_of(self, "bias"),
            self.stride,
            padding,
            self.dilation,
            self.groups,
            running_mean=mean,
            running_var=variance,
            norm_weight=weight,
            norm_bias=bias,
            eps=eps,
            residual=residual,
            activation=after.activation,
            negative_slope=after.negative_slope,
            precision=precision_of(self),
        )

    def _output_shape(self, input: Tensor, padding: tuple[int, ...]) -> tuple[int, ...]:
        def size(d: int) -> int:
            reach = self.dilation[d] * (self.weight.shape[2 + d] - 1) + 1
            return (input.shape[2 + d] + 2 * padding[d] - reach) // self.stride[d] + 1

        return (input.shape[0], self.weight.shape[0], size(0), size(1))


class Conv1d(ConvKind):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self.convolve(conv1d, input, precision=precision_of(self))


class Conv2d(ConvKind):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self.convolve(conv2d, input, precision=precision_of(self))


class Conv2dSame(ConvKind):
    """timm's Conv2dSame, whose padding depends on the input's size."""

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        if not isinstance(input, Tensor) or input.dim() != 4:
            return None
        padded = pad_same(input, self.weight.shape[-2:], self.stride, self.dilation)
        return super().fused_forward(padded, after)

    def invariant_forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.weight.shape[-2:], self.stride, self.dilation)
        where = self.stride, 0, self.dilation, self.groups
        return conv2d(x, self.weight, self.bias, *where, precision=precision_of(self))


class StdConv2d(Patched):
    """StdConv2d, ScaledStdConv2d and their 'same' kinds.

    The weight is standardized at every call, as in timm: nothing is cached that a changed parameter
    would leave behind.
    """

    def invariant_forward(self, x: Tensor) -> Tensor:
        module: Any = self
        if getattr(module, "same_pad", False):
            x = pad_same(x, module.kernel_size, module.stride, module.dilation)
        gain = (module.gain * module.scale).view(-1) if hasattr(module, "gain") else None
        weight = batch_norm(
            module.weight.reshape(1, module.out_channels, -1),
            None,
            None,
            weight=gain,
            training=True,
            momentum=0.0,
            eps=module.eps,
        ).reshape_as(module.weight)
        where = module.stride, module.padding, module.dilation, module.groups
        return conv2d(x, weight, module.bias, *where, precision=precision_of(self))


_STD_CONV = "timm.layers.std_conv."

KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.conv.Conv1d": Conv1d,
    "torch.nn.modules.conv.Conv2d": Conv2d,
    "timm.layers.conv2d_same.Conv2dSame": Conv2dSame,
    _STD_CONV + "StdConv2d": StdConv2d,
    _STD_CONV + "StdConv2dSame": StdConv2d,
    _STD_CONV + "ScaledStdConv2d": StdConv2d,
    _STD_CONV + "ScaledStdConv2dSame": StdConv2d,
}
