"""The forward of a patched block: the program that it has been given, or the block's own code."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from bninv.modules.entry import bound

PROGRAMS = "_bninv_programs"  # the attribute in which a block has what `bninv.fusing` gave it
UNFIT = object()  # a program's answer where the block's own code is to run


def program_or_forward(stock: Any) -> Callable[..., Any]:
    """A forward that runs the block's program where one fits, and the class's own elsewhere."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (self.training or kwargs or torch.compiler.is_compiling()):
            programs = self.__dict__.get(PROGRAMS)
            if programs is not None:
                result = programs.run(self, args)
                if result is not UNFIT:
                    return result
        own = stock.forward
        if type(own) is FunctionType:
            return own(self, *args, **kwargs)
        return bound(self, stock, "forward")(*args, **kwargs)

    return forward
