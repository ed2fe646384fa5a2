"""nn.Conv3d: rule R1."""

from __future__ import annotations

from torch import Tensor

from bninv.modules.base import Patched
from bninv.operators.conv2d_modules import ConvKind
from bninv.operators.conv3d import conv3d


class Conv3d(ConvKind):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return self.convolve(conv3d, input)


KINDS: dict[str, type[Patched]] = {"torch.nn.modules.conv.Conv3d": Conv3d}
