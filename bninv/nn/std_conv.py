"""timm's convolutions with standardized weights: rule R5 for the weight, R1 for the convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bninv import functional as F
from bninv.nn.base import Patched
from bninv.nn.conv import pad_same


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
        weight = F.batch_norm(
            module.weight.reshape(1, module.out_channels, -1),
            None,
            None,
            weight=gain,
            training=True,
            momentum=0.0,
            eps=module.eps,
        ).reshape_as(module.weight)
        return F.conv2d(
            x, weight, module.bias, module.stride, module.padding, module.dilation, module.groups
        )


_TIMM = "timm.layers.std_conv."

KINDS: dict[str, type[Patched]] = dict.fromkeys(
    (
        _TIMM + "StdConv2d",
        _TIMM + "StdConv2dSame",
        _TIMM + "ScaledStdConv2d",
        _TIMM + "ScaledStdConv2dSame",
    ),
    StdConv2d,
)
