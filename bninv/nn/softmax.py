"""Softmax modules of torch.nn and timm: rule R4."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bninv import functional as F
from bninv.nn.base import NARROW, Patched


class Softmax(Patched):
    dtypes = NARROW
    dim: int

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if module.dim is None:
            return "its dim is None, which may mean the batch: give it one"
        return None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)


class LogSoftmax(Softmax):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)


class Softmax2d(Patched):
    dtypes = NARROW

    def invariant_forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4):
            raise ValueError(f"`input` has {input.dim()} dimensions; it may have 3 or 4")
        return F.softmax(input, -3)


class RadixSoftmax(Patched):
    """timm's attention over the branches of a ResNeSt block; one branch: a sigmoid."""

    dtypes = NARROW
    radix: int
    cardinality: int

    def invariant_forward(self, x: Tensor) -> Tensor:
        if self.radix == 1:
            return F.sigmoid(x)
        batch = x.size(0)
        branches = x.view(batch, self.cardinality, self.radix, -1).transpose(1, 2)
        return F.softmax(branches, dim=1).reshape(batch, -1)


_TORCH = "torch.nn.modules.activation."

KINDS: dict[str, type[Patched]] = {
    _TORCH + "Softmax": Softmax,
    _TORCH + "LogSoftmax": LogSoftmax,
    _TORCH + "Softmax2d": Softmax2d,
    "timm.layers.split_attn.RadixSoftmax": RadixSoftmax,
}
