"""Activation modules of torch.nn and timm: rule R6. In float64 those without an exponential."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bninv import functional as F
from bninv.nn.base import NARROW, Patched


def _inplace(module: Any) -> bool:
    return bool(getattr(module, "inplace", False))


class ReLU(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.relu(input, _inplace(self))


class ReLU6(Patched):
    """nn.ReLU6, which inherits nn.Hardtanh's forward."""

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if (module.min_val, module.max_val) == (0, 6):
            return None
        return f"Hardtanh from {module.min_val} to {module.max_val} has no kernel yet; 0 to 6 has"

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.relu6(input, _inplace(self))


class LeakyReLU(Patched):
    negative_slope: float

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, _inplace(self))


class Sigmoid(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input, _inplace(self))


class SiLU(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.silu(input, _inplace(self))


class Hardswish(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.hardswish(input, _inplace(self))


class Hardsigmoid(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(input, _inplace(self))


class GELU(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, getattr(self, "approximate", "none"))


class GELUTanh(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, "tanh")


class Tanh(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.tanh(input, _inplace(self))


_TORCH = "torch.nn.modules.activation."
_TIMM = "timm.layers.activations."

KINDS: dict[str, type[Patched]] = {
    _TORCH + "ReLU": ReLU,
    _TORCH + "Hardtanh": ReLU6,
    _TORCH + "LeakyReLU": LeakyReLU,
    _TORCH + "Sigmoid": Sigmoid,
    _TORCH + "SiLU": SiLU,
    _TORCH + "Hardswish": Hardswish,
    _TORCH + "Hardsigmoid": Hardsigmoid,
    _TORCH + "GELU": GELU,
    _TORCH + "Tanh": Tanh,
    _TIMM + "Sigmoid": Sigmoid,
    _TIMM + "Tanh": Tanh,
    _TIMM + "Swish": SiLU,
    _TIMM + "HardSwish": Hardswish,
    _TIMM + "HardSigmoid": Hardsigmoid,
    _TIMM + "GELU": GELU,
    _TIMM + "GELUTanh": GELUTanh,
    "timm.layers.activations_me.SwishMe": SiLU,
    "timm.layers.activations_me.HardSwishMe": Hardswish,
    "timm.layers.activations_me.HardSigmoidMe": Hardsigmoid,
}
