"""The programs of one block, and the forward that tries them before the block's own code."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from bninv.fusing.structure import Structure, structure_of
from bninv.nn.base import Patched

Program = Callable[[Any, tuple[Any, ...]], Any]  # of a block and its positional arguments
UNFIT = object()
PROGRAMS = "_bninv_programs"  # the attribute in which a block has them

# One thread makes programs, and whoever needs them as well waits. Re-entrant: code that is recorded
# may call another patched model.
_lock = threading.RLock()

# A block that is changed, or called in another way, more often than that is left to its own code.
_MOST = 8


class Programs:
    """By the structure of the arguments; made when they are needed.

    Copies and pickles of a block take along how programs are made, and none that is.
    """

    def __init__(self, make: Callable[[Any, Structure], Program | None]) -> None:
        self._make = make
        # Of one structure several, for a block that has changed; none where there are no chains.
        self._made: dict[Structure, list[Program]] = {}
        self._left = _MOST

    def __reduce__(self) -> Any:
        return Programs, (self._make,)

    def structures(self) -> list[Structure]:
        """Of the arguments that the block was called with so far."""
        return list(self._made)

    def run(self, block: Any, args: tuple[Any, ...]) -> Any:
        """The block's result, or UNFIT: its own code is to run."""
        structure = structure_of(args)
        if structure is None or _is_observed():
            return UNFIT
        known = self._made.get(structure)
        if known is not None:
            for program in known:
                result = program(block, args)
                if result is not UNFIT:
                    return result
            if not known:
                return UNFIT
        made = self._add(block, structure, known)
        return UNFIT if made is None else made(block, args)

    def _add(self, block: Any, structure: Structure, known: list[Program] | None) -> Program | None:
        # A profiler could not be put back after the recording, which runs under one of its own.
        if self._left == 0 or sys.getprofile() is not None:
            return None
        with _lock:
            if self._made.get(structure) is not known:  # another thread was here first
                return next(iter(self._made[structure]), None)
            self._left -= 1
            program = self._make(block, structure)
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


def by_program(method: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that runs the block's program where one fits, and `method` elsewhere."""

    @functools.wraps(method)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (self.training or kwargs or torch.compiler.is_compiling()):
            programs = self.__dict__.get(PROGRAMS)
            if programs is not None:
                result = programs.run(self, args)
                if result is not UNFIT:
                    return result
        return method(self, *args, **kwargs)

    return forward


class FusedSequential(Patched):
    """A container of stock code with chains among its layers."""

    is_kind = False
    fuses = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return stock_forward(self, *args, **kwargs)


@by_program
def stock_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The forward of a patched module's own class, or the block's program."""
    return super(Patched, self).forward(*args, **kwargs)
