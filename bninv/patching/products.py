"""What a patched model's products are computed by: rule R1, or R9 where it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bninv import precision as tensor_cores
from bninv.modules.base import Patched, precision_of
from bninv.operators.conv2d_modules import ConvKind, StdConv2d
from bninv.operators.conv3d_modules import Conv3d
from bninv.operators.conv_transpose_modules import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from bninv.operators.linear import Linear

_OTHERS = (Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
_PRODUCTS = (ConvKind, StdConv2d, Linear, *_OTHERS)
# R9 takes groups of at least so many input channels, or one group.
_LEAST_CHANNELS = 32


class SpeedWarning(UserWarning):
    """A patched model would run several times faster in another way."""


@dataclass(frozen=True)
class Product:
    """A layer that is a product: by which arithmetic, and why if it is not the one asked for.

    `precision` is 'ieee' (R1), or what `patch` was told: 'tensor', 'tensor-A', 'tensor-H' (R9).
    """

    name: str  # qualified; "" is the model itself
    kind: str
    precision: str
    reason: str = ""

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"{self.name or '(the model itself)'} ({self.kind}): {self.precision}{why}"


def products(model: nn.Module) -> list[Product]:
    """The convolutions and linear layers of a patched model, in its order.

    Products in a model's own code (`F.linear`, `@`) are no layers: R9 reaches all of those but for
    convolutions of small groups, 3-d and transposed ones, and attention. Empty for a stock model.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _PRODUCTS):
            asked = precision_of(module)
            reason = "" if asked == "ieee" else _why_not(module)
            kind = type(module).__name__
            found.append(Product(name, kind, "ieee" if reason else asked, reason))
    return found


def _why_not(module: Any) -> str:
    """Why R9 does not reach a layer, or nothing."""
    if isinstance(module, _OTHERS):
        return "R9 has no 3-d and no transposed convolution"
    weight = module.weight
    if weight.dtype is torch.float64:
        return "R9 has no float64"
    groups = getattr(module, "groups", 1)
    channels = weight.shape[1]
    if groups > 1 and channels < _LEAST_CHANNELS:
        return f"groups of {channels} input channels, fewer than {_LEAST_CHANNELS}"
    return ""


def slow_halves(model: nn.Module) -> str:
    """What to say of half-precision weights on a GPU whose tensor cores idle, or nothing."""
    for module in model.modules():
        if not (isinstance(module, Patched) and isinstance(module, _PRODUCTS)):
            continue
        weight = module.weight
        is_half = weight.dtype in (torch.float16, torch.bfloat16)
        if is_half and weight.is_cuda and _has_tensor_cores(weight.device):
            name = str(weight.dtype).removeprefix("torch.")
            return (
                f"the model has {name} weights on a GPU, and `precision` is 'ieee': right, and the "
                "same on every device, but its tensor cores idle. patch(model, "
                "precision='tensor') is several times faster, with one set of bits for each class "
                "of GPUs"
            )
    return ""


def _has_tensor_cores(device: torch.device) -> bool:
    try:
        return tensor_cores.arithmetic(device) != "ieee"
    except ValueError:  # a compiler's stand-in for a GPU that is not here
        return False
