"""timm's squeeze-and-excitation blocks, whose two calls are known and need not be caught.

Such a block is a mean, a few small layers and a product, and a mobile network has one in each
stage: catching the two calls is most of what the protection would cost there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from bninv import functional as F
from bninv._protection import step_in, step_out
from bninv.dispatch.modules import Protected, protected

# The blocks by the class that defines `forward`, with the names of their layers in order, and the
# other names that their forward uses.
_SE_MODULE = ("add_maxpool", "amax")
BLOCKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "timm.models._efficientnet_blocks.SqueezeExcite": (("conv_reduce", "act1", "conv_expand"), ()),
    "timm.layers.squeeze_excite.SEModule": (("fc1", "bn", "act", "fc2"), _SE_MODULE),
    "timm.layers.squeeze_excite.EffectiveSEModule": (("fc",), _SE_MODULE),
}


class SqueezeExcite(Protected):
    """`x * gate(layers(mean(x)))`: R3 and one product an element."""

    fuses = False

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        owner: Any = next(c for c in stock.__mro__ if "forward" in vars(c))
        layers, others = BLOCKS[f"{owner.__module__}.{owner.__qualname__}"]
        stock_forward = owner.forward
        members = super().members(stock)
        # Another version of the block may compute something else: then its calls are caught.
        if set(stock_forward.__code__.co_names) == {"mean", "gate", *layers, *others}:
            members["forward"] = protected(_forward(stock_forward, layers))
        return members


def _forward(stock_forward: Callable[..., Any], layers: Sequence[str]) -> Callable[..., Any]:
    def forward(self: Any, x: Any) -> Any:
        if not isinstance(x, Tensor) or getattr(self, "add_maxpool", False):
            return stock_forward(self, x)
        protection = step_out()
        try:
            gate = F.mean(x, (2, 3), keepdim=True)
        finally:
            step_in(protection)
        for name in layers:
            gate = getattr(self, name)(gate)
        gate = self.gate(gate)
        protection = step_out()
        try:
            return x * gate
        finally:
            step_in(protection)

    return forward
