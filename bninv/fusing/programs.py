"""The programs of one block."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from bninv._programs import UNFIT, stock_forward
from bninv.fusing.program import Program, make
from bninv.fusing.structure import Structure, structure_of
from bninv.nn.base import Patched

# One thread makes programs, and whoever needs them as well waits. Re-entrant: code that is traced
# may call another patched model.
_lock = threading.RLock()

# A block that is changed, or called in another way, more often than that is left to its own code.
_MOST = 8


class Programs:
    """By the structure of the arguments; made when they are needed.

    A program is bound to the modules of its block: copies and pickles make their own, and what
    shares a block's attributes without being it (a replica of DataParallel's) runs its own code.
    """

    def __init__(self, block: Any, trust: tuple[str, ...] = ()) -> None:
        self.trust = trust
        self._block = block
        # Of one structure several, for a block that has changed; none where there are no chains.
        self._made: dict[Structure, list[Program]] = {}
        self._left = _MOST

    def __reduce__(self) -> Any:
        return Programs, (self._block, self.trust)

    def structures(self) -> list[Structure]:
        """Of the arguments that the block was called with so far."""
        return list(self._made)

    def run(self, block: Any, args: tuple[Any, ...]) -> Any:
        """The block's result, or UNFIT: its own code is to run."""
        structure, tensors = structure_of(args)
        if structure is None or block is not self._block or _is_observed():
            return UNFIT
        known = self._made.get(structure)
        if known is not None:
            for program in known:
                result = program.run(tensors)
                if result is not UNFIT:
                    return result
            if not known:
                return UNFIT
        made = self._add(structure, known)
        return UNFIT if made is None else made.run(tensors)

    def _add(self, structure: Structure, known: list[Program] | None) -> Program | None:
        if self._left == 0:
            return None
        with _lock:
            if self._made.get(structure) is not known:  # another thread was here first
                return next(iter(self._made[structure]), None)
            self._left -= 1
            try:
                program = make(self._block, structure, self.trust)[0]
            except Exception:  # bninv.fusion() says why
                program = None
            self._made[structure] = [*([] if program is None else [program]), *(known or [])]
        return program


def _is_observed() -> bool:
    """Whether something looks at single calls."""
    return bool(
        torch._C._get_tracing_state() is not None
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


class FusedSequential(Patched):
    """A container of stock code with chains among its layers."""

    is_kind = False
    fuses = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return stock_forward(self, *args, **kwargs)
