"""The programs of one block, and the forward that tries them before the block's own code."""

from __future__ import annotations

import functools
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

# Python's `ast` is not made for several threads at once.
_lock = threading.Lock()

# A block that is called with ever other structures is left to its own code.
_MOST = 8


class Programs:
    """By the structure of the arguments; made at the first call with each.

    Copies and pickles of a block take along how programs are made, and none that is.
    """

    def __init__(self, make: Callable[[Any, Structure], Program | None]) -> None:
        self._make = make
        self._made: dict[Structure, Program | None] = {}

    def __reduce__(self) -> Any:
        return Programs, (self._make,)

    def structures(self) -> list[Structure]:
        """Of the arguments that the block was called with so far."""
        return list(self._made)

    def run(self, block: Any, args: tuple[Any, ...]) -> Any:
        """The block's result, or UNFIT: its own code is to run."""
        structure = structure_of(args)
        if structure is None:
            return UNFIT
        try:
            program = self._made[structure]
        except KeyError:
            program = self._add(block, structure)
        if program is None or _is_observed():
            return UNFIT
        return program(block, args)

    def _add(self, block: Any, structure: Structure) -> Program | None:
        if len(self._made) >= _MOST:
            return None
        with _lock:
            program = self._made[structure] = self._make(block, structure)
        return program


def _is_observed() -> bool:
    """Whether something looks at single calls, or changes what they are handed."""
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
        if not torch.compiler.is_compiling() and not kwargs:
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
