"""Modules in training mode that compute otherwise than in eval mode."""

from __future__ import annotations

from torch import nn

from bninv.modules.base import Patched, forward_owner
from bninv.modules.exact import is_identity


def differing(model: nn.Module) -> list[str]:
    """The qualified names of those that are in training mode now.

    BatchNorm and whatever updates running statistics, dropout and stochastic depth with a
    probability above zero, and the fake quantizers of torch.ao. What a module's own code does with
    `self.training` cannot be seen.
    """
    return [name for name, module in model.named_modules() if module.training and _differs(module)]


def _differs(module: nn.Module) -> bool:
    if isinstance(module, Patched) and module.is_kind:
        return module.differs_in_training()
    owner = forward_owner(module)
    if is_identity(owner):
        return any(_is_positive(getattr(module, name, 0)) for name in ("p", "drop_prob"))
    return owner == "torch.nn.modules.activation.RReLU" or owner.startswith("torch.ao.")


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0
