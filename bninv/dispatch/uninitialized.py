"""Lazy modules, whose parameters get their shapes from the first batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.parameter import is_lazy

from bninv.dispatch.policy import NotInvariantError

_MOST_NAMED = 5


def need_values(model: nn.Module, chosen_by: Callable[[nn.Module, str], bool] | None) -> None:
    """Raise NotInvariantError if a module that is to be patched waits for a first batch.

    Its class is another one afterwards, and its weights can only then be laid out.
    """
    waiting = [
        f"{name or '(the model itself)'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if _waits(module) and (chosen_by is None or chosen_by(module, name))
    ]
    if waiting:
        more = len(waiting) - _MOST_NAMED
        shown = ", ".join(waiting[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise NotInvariantError(
            f"`model` holds lazy modules whose shapes are not known before their first forward: "
            f"{shown}; run the model once on a batch, model(x), and patch it then. Nothing was "
            "changed"
        )


def _waits(module: nn.Module) -> bool:
    own = (*module._parameters.values(), *module._buffers.values())
    return any(tensor is not None and is_lazy(tensor) for tensor in own)
