"""What a patched module of each kind does.

A kind is a mixin class with an `invariant_forward`. It replaces one known `forward`, and only that
one: kinds are found by the class that *defines* a module's forward, so a subclass that inherits it
is covered and a subclass with arithmetic of its own is not mistaken for its base.
"""

from __future__ import annotations

from bninv.nn import (
    activation,
    batch_norm,
    conv,
    linear,
    normalization,
    pooling,
    softmax,
    std_conv,
)
from bninv.nn.base import Patched, patched_class, stock_class
from bninv.nn.exact import is_exact

KINDS: dict[str, type[Patched]] = {
    **activation.KINDS,
    **batch_norm.KINDS,
    **conv.KINDS,
    **linear.KINDS,
    **normalization.KINDS,
    **pooling.KINDS,
    **softmax.KINDS,
    **std_conv.KINDS,
}

__all__ = ["KINDS", "Patched", "is_exact", "patched_class", "stock_class"]
