"""Pooling modules of torch.nn and timm: averages by rule R3, maxima exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv.modules.base import Patched
from bninv.operators.conv2d_modules import pad_same
from bninv.operators.pool2d import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from bninv.operators.pool3d import (
    adaptive_avg_pool3d,
    adaptive_max_pool3d,
    avg_pool3d,
    max_pool3d,
)
from bninv.operators.sum import mean


class _MaxPool(Patched):
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        return "return_indices is True, which has no kernel yet" if module.return_indices else None

    def _pool(self, function: Any, input: Tensor, padding: Any) -> Tensor:
        result: Tensor = function(
            input, self.kernel_size, self.stride, padding, self.dilation, self.ceil_mode
        )
        return result


class MaxPool1d(_MaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self._pool(max_pool1d, input, self.padding)


class MaxPool2d(_MaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self._pool(max_pool2d, input, self.padding)


class MaxPool3d(_MaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self._pool(max_pool3d, input, self.padding)


class MaxPool2dSame(_MaxPool):
    def invariant_forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride, self.dilation, value=-float("inf"))
        return self._pool(max_pool2d, x, 0)


class _AvgPool(Patched):
    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    count_include_pad: bool


class AvgPool1d(_AvgPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(_AvgPool):
    divisor_override: int | None

    def _pool(self, function: Any, input: Tensor) -> Tensor:
        result: Tensor = function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
        return result

    def invariant_forward(self, input: Tensor) -> Tensor:
        return self._pool(avg_pool2d, input)


class AvgPool3d(AvgPool2d):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self._pool(avg_pool3d, input)


class AvgPool2dSame(_AvgPool):
    def invariant_forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride)
        return avg_pool2d(
            x, self.kernel_size, self.stride, 0, self.ceil_mode, self.count_include_pad
        )


class _AdaptivePool(Patched):
    output_size: Any


class AdaptiveAvgPool1d(_AdaptivePool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptivePool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptivePool):
    @classmethod
    def refuse(cls, module: Any) -> str | None:
        return "return_indices is True, which has no kernel yet" if module.return_indices else None


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_max_pool1d(input, self.output_size)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_max_pool2d(input, self.output_size)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return adaptive_max_pool3d(input, self.output_size)


class AdaptiveAvgMaxPool2d(_AdaptivePool):
    """timm: half the sum of both. The sum and the product with 0.5 are one operation an element."""

    def invariant_forward(self, x: Tensor) -> Tensor:
        average = adaptive_avg_pool2d(x, self.output_size)
        return 0.5 * (average + adaptive_max_pool2d(x, self.output_size))


class AdaptiveCatAvgMaxPool2d(_AdaptivePool):
    def invariant_forward(self, x: Tensor) -> Tensor:
        average = adaptive_avg_pool2d(x, self.output_size)
        return torch.cat((average, adaptive_max_pool2d(x, self.output_size)), 1)


def _spatial_max(x: Tensor, dim: tuple[int, int], keepdim: bool) -> Tensor:
    """The maximum over two neighbouring dimensions. Stock amax picks among zeros of both signs by
    their place in a vector; max pooling does not.
    """
    channels_first = x.movedim(dim, (-2, -1))
    largest = adaptive_max_pool2d(channels_first, 1)
    return largest.movedim((-2, -1), dim) if keepdim else largest.flatten(1)


class FastAdaptiveAvgPool(Patched):
    """timm: the mean over the spatial dimensions."""

    dim: tuple[int, int]
    flatten: bool

    def invariant_forward(self, x: Tensor) -> Tensor:
        return mean(x, self.dim, keepdim=not self.flatten)


class FastAdaptiveMaxPool(FastAdaptiveAvgPool):
    def invariant_forward(self, x: Tensor) -> Tensor:
        return _spatial_max(x, self.dim, keepdim=not self.flatten)


class FastAdaptiveAvgMaxPool(FastAdaptiveAvgPool):
    def invariant_forward(self, x: Tensor) -> Tensor:
        largest = _spatial_max(x, self.dim, keepdim=not self.flatten)
        return 0.5 * super().invariant_forward(x) + 0.5 * largest


class FastAdaptiveCatAvgMaxPool(Patched):
    dim_reduce: tuple[int, int]
    dim_cat: int
    flatten: bool

    def invariant_forward(self, x: Tensor) -> Tensor:
        average = mean(x, self.dim_reduce, keepdim=not self.flatten)
        largest = _spatial_max(x, self.dim_reduce, keepdim=not self.flatten)
        return torch.cat((average, largest), self.dim_cat)


_TORCH = "torch.nn.modules.pooling."
_TIMM = "timm.layers.adaptive_avgmax_pool."

KINDS: dict[str, type[Patched]] = {
    **{
        _TORCH + kind.__name__: kind
        for kind in (
            MaxPool1d,
            MaxPool2d,
            MaxPool3d,
            AvgPool1d,
            AvgPool2d,
            AvgPool3d,
            AdaptiveAvgPool1d,
            AdaptiveAvgPool2d,
            AdaptiveAvgPool3d,
            AdaptiveMaxPool1d,
            AdaptiveMaxPool2d,
            AdaptiveMaxPool3d,
        )
    },
    **{
        _TIMM + kind.__name__: kind
        for kind in (
            AdaptiveAvgMaxPool2d,
            AdaptiveCatAvgMaxPool2d,
            FastAdaptiveAvgPool,
            FastAdaptiveMaxPool,
            FastAdaptiveAvgMaxPool,
            FastAdaptiveCatAvgMaxPool,
        )
    },
    "timm.layers.pool2d_same.MaxPool2dSame": MaxPool2dSame,
    "timm.layers.pool2d_same.AvgPool2dSame": AvgPool2dSame,
}
