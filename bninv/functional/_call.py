"""How a function calls its operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv._arguments import explain_tensors
from bninv._autocast import autocast

ops = torch.ops.bninv


def call(op: Any, input: Tensor, *args: Any) -> Any:
    """Call an operator, leaving autograd out where nothing asks for it.

    The gradient's registration is a Python kernel; passing it by saves microseconds a call. A
    compiler and other tensor subclasses see the plain call.
    """
    try:
        if torch._C._is_any_autocast_enabled():
            input, args = autocast(op, input, args)
        grad = torch.is_grad_enabled() and torch._C._get_tracing_state() is None
        if torch.compiler.is_compiling() or grad:
            return op(input, *args)
        with torch._C._AutoDispatchBelowAutograd():
            return op._op(input, *args)
    except (AttributeError, RuntimeError, TypeError):
        explain_tensors(op, (input, *args))
        raise
