"""The forward of a patched block: the program that it has been given, or the block's own code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from bninv.modules.base import Patched

PROGRAMS = "_bninv_programs"  # the attribute in which a block has what `bninv.fusing` gave it
UNFIT = object()  # a program's answer where the block's own code is to run


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


@by_program
def stock_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The forward of a patched module's own class, or the block's program."""
    return super(Patched, self).forward(*args, **kwargs)
