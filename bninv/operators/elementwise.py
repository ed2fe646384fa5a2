"""How a function of one tensor becomes an operator, PyTorch's functions, and kinds of modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from bninv._arguments import need_tensor
from bninv.modules.base import Patched
from bninv.operators.adapters import Adapter
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw, any_input
from bninv.operators.fakes import like_dense
from bninv.operators.operator import Operator

# Those of the room `unary`, filled as its functions are read.
OPERATORS: list[Operator] = []
ATEN: dict[str, Adapter] = {}
PYTHON: dict[str, Adapter] = {}
KINDS: dict[str, type[Patched]] = {}
# By the name of a function: the kind of the modules that are nothing else.
KIND_OF: dict[str, type[Patched]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Tensor])
# Functions that PyTorch has of integers and booleans too: of the default dtype's rounding of them.
OF_INTEGERS_TOO = {"sigmoid", "tanh", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log1p"}
OF_INTEGERS_TOO |= {"log2", "log10", "erf", "sin", "cos", "tan", "atan", "sinh", "cosh"}


def elementwise(*modules: str) -> Callable[[_Function], _Function]:
    """Makes an operator, its in-place form, its adapters and the kind of its modules of a function
    `(input, inplace)`, which calls the operator of its own name.

    Args:
        modules: qualified names of module classes whose forward is the function.
    """

    def register(function: _Function) -> _Function:
        name = function.__name__
        add(name, "(Tensor input) -> Tensor", function, lambda draw: [any_input(draw)])

        class Kind(Patched):
            def invariant_forward(self, input: Tensor) -> Tensor:
                return function(input, bool(getattr(self, "inplace", False)))

        if modules:  # by a name in this file, by which it is pickled
            Kind.__name__ = Kind.__qualname__ = modules[0].rpartition(".")[2]
            globals()[Kind.__name__] = KIND_OF[name] = Kind
            KINDS.update(dict.fromkeys(modules, Kind))
        return function

    return register


def add(
    name: str,
    schema: str,
    function: Adapter,
    draw: Callable[[Draw], list[Any]],
) -> None:
    """An operator, its in-place form and its adapters, of a function that takes `inplace` last."""

    def in_place(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, inplace=True, **kwargs)

    def promoted(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(as_floats(input), *args, **kwargs)

    OPERATORS.append(Operator(name, schema, like_dense, draw, in_place=True))
    ATEN.update({name: promoted if name in OF_INTEGERS_TOO else function, f"{name}_": in_place})
    if hasattr(torch.nn.functional, name):
        PYTHON[name] = function


def as_floats(input: Tensor) -> Tensor:
    """Integers and booleans in the default dtype, as PyTorch's functions take them."""
    return input if input.is_floating_point() else input.to(torch.get_default_dtype())


def unary(name: str, input: Tensor, inplace: bool, *args: object) -> Tensor:
    """Call the operator of a name, or its in-place form as PyTorch's own change a tensor."""
    need_tensor("input", input)
    if not inplace:
        return call(getattr(ops, name).default, input, *args)
    if torch.is_grad_enabled() and input.requires_grad:
        # copy_ keeps the history of an in-place change; the operator alone has none.
        return input.copy_(call(getattr(ops, name).default, input, *args))
    call(getattr(ops, f"{name}_").default, input, *args)
    if not torch.compiler.is_compiling() and not input.is_inference():
        # A backward that saved this tensor must notice the change.
        torch.autograd.graph.increment_version(input)
    return input
