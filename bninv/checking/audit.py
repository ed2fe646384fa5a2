"""Which operators of a model are neither bninv's own nor known to be exact.

The model runs once under a TorchDispatchMode, which sees every operator PyTorch executes,
whichever way the model's code called it. What is uncovered is found, not assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bninv.checking.inputs import call_model
from bninv.checking.sites import Place, Site, calling_line, count_sites
from bninv.dispatch import exact


@dataclass
class Uncovered:
    """An operator the contract does not reach: its name, how often it ran, and where.

    `first`, `line` and `code` are of its first call (see `Site`); `sites` are of all of them.
    """

    operator: str
    count: int
    first: str
    line: str = ""
    code: str = ""
    sites: list[Site] = field(default_factory=list)


class ModuleStack:
    """The qualified names of the modules whose forward is running, innermost last."""

    def __init__(self) -> None:
        self._names: list[str] = []

    @property
    def innermost(self) -> str:
        """The innermost running module's qualified name; empty for the model's own forward."""
        return self._names[-1] if self._names else ""

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep the stack while `model` runs, by forward hooks that are taken off again."""
        handles = []
        try:
            for name, module in model.named_modules():
                enter, leave = self._hooks(name)
                # First in, last out: what a user's own hooks run belongs to the module as well.
                handles.append(module.register_forward_pre_hook(enter, prepend=True))
                handles.append(module.register_forward_hook(leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._names.clear()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: Any) -> None:
            self._names.append(name)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._names.pop()

        return enter, leave


def _is_truncation(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    """Floats made integers that hold all of them, so that there is one way to do it."""
    if func.overloadpacket is not torch.ops.aten._to_copy or not isinstance(result, torch.Tensor):
        return False
    from_floats = args[0].is_floating_point() and not result.is_floating_point()
    if not from_floats or result.is_complex() or result.dtype is torch.bool:
        return False
    limits = torch.iinfo(result.dtype)
    wide = args[0].double()
    # As powers of two, which float64 holds.
    return bool(((wide > float(limits.min) - 1) & (wide < float(limits.max + 1))).all())


class _Auditor(TorchDispatchMode):
    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self.stack = stack
        self.found: dict[str, list[Place]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = func.namespace == "bninv" or exact.reason(func, args, kwargs, result) is not None
        if not known and not _is_truncation(func, args, result):
            name = f"{func.namespace}::{func.overloadpacket.__name__}"
            place = Place(self.stack.innermost, *calling_line(find_uncovered.__code__))
            self.found.setdefault(name, []).append(place)
        return result

    def uncovered(self) -> list[Uncovered]:
        return [
            Uncovered(name, len(places), *places[0], count_sites(places))
            for name, places in self.found.items()
        ]


def find_uncovered(model: nn.Module, inputs: Any) -> list[Uncovered]:
    """Run the model on `inputs` once, without gradients, and list its uncovered operators.

    An operator that only ever touches parameters counts as well: its result does not depend on
    the batch, but its bits may differ between devices. The list is in order of first occurrence.
    """
    stack = ModuleStack()
    auditor = _Auditor(stack)
    # no_grad and not inference_mode: there composite operators arrive in their parts, so that a
    # composite of exact parts passes.
    with torch.no_grad(), stack.watching(model), auditor:
        call_model(model, inputs)
    return auditor.uncovered()
