"""PyTorch's autocast for operators it does not know: the policy of their stock namesakes.

Autocast acts on ATen's operators only; a custom operator sees whatever dtypes it is given. These
are the policies of `ATen/autocast_mode.h` for the names that bninv has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_EVERYWHERE = ("cpu", "cuda")

# Operators whose floating-point tensors are cast to the autocast dtype, by device type.
_LOWER_PRECISION = dict.fromkeys(("conv2d", "conv2d_fused", "linear", "linear_fused"), _EVERYWHERE)
# What follows a product takes what it is given: of those only weight and bias are cast.
_PRODUCT_ARGUMENTS = 2

# Operators that work in float32, by device type. All others take what they are given.
_FLOAT32 = dict.fromkeys(("sum", "layer_norm", "group_norm", "softmax", "log_softmax"), ("cuda",))


def product_dtype(input: Tensor) -> torch.dtype:
    """The dtype of a convolution's or linear layer's result, which autocast may decide."""
    device, dtype = input.device.type, input.dtype
    if not torch._C._is_any_autocast_enabled() or dtype is torch.float64:
        return dtype
    casts = device in _EVERYWHERE and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if casts else dtype


def autocast(op: Any, input: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """An operator's arguments as PyTorch's autocast would cast its namesake's.

    Called only where some autocast is enabled. float64 tensors stay as they are, as in PyTorch.
    """
    device = input.device.type
    if device not in _EVERYWHERE or not torch.is_autocast_enabled(device):
        return input, args
    # Not by the schema, at which torch.compile cannot look.
    name = op.__name__.partition(".")[0]
    if device in _LOWER_PRECISION.get(name, ()):
        dtype = torch.get_autocast_dtype(device)
    elif device in _FLOAT32.get(name, ()):
        dtype = torch.float32
    else:
        return input, args

    def cast(value: Any) -> Any:
        eligible = (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.dtype != torch.float64
            and value.device.type == device
        )
        return value.to(dtype) if eligible else value

    cast_up_to = _PRODUCT_ARGUMENTS if name.endswith("_fused") else len(args)
    return cast(input), tuple(cast(arg) if i < cast_up_to else arg for i, arg in enumerate(args))
