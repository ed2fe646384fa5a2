"""Linear modules of torch.nn and timm: rule R1."""

from __future__ import annotations

from torch import Tensor

from bninv import functional as F
from bninv.nn.base import Patched


class Linear(Patched):
    panel_parameters = ("weight",)
    weight: Tensor
    bias: Tensor | None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.linear.Linear": Linear,
    "timm.layers.linear.Linear": Linear,
}
