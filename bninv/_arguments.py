"""Checks of arguments: each error names the argument, what it was, and what it may be."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from bninv._conversion import STOCK_MODEL
from bninv._shown import shown

IntPair = int | Sequence[int]

# 'ieee' is R1; the others are R9, by the tensor cores of the device or of the class that is named.
Precision = Literal["ieee", "tensor", "tensor-A", "tensor-H"]
PRECISIONS = get_args(Precision)
_WRONG_TYPE = re.compile(r"Expected a value of type '(?P<kind>[^']+)' for argument '(?P<name>\w+)'")
_INTEGERS = {int}
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "True or False",
    "str": "a string",
    **dict.fromkeys(("List[int]", "Optional[List[int]]"), "integers"),
}
# What may follow an operator in its kernel; those with an exponential are not defined in float64.
Activation = Literal[
    "none",
    "relu",
    "relu6",
    "silu",
    "hardswish",
    "leaky_relu",
    "sigmoid",
    "hardsigmoid",
    "gelu",
    "gelu_tanh",
    "tanh",
]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
GELU = {"none": "gelu", "tanh": "gelu_tanh"}  # by PyTorch's `approximate`


class BatchStatisticsError(ValueError):
    """The arguments ask for statistics of a batch, which move with it."""


def need_tensor(argument: str, value: Any) -> None:
    """Raise TypeError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        if isinstance(value, np.ndarray):
            was, remedy = "numpy.ndarray", " (torch.from_numpy(...))"
        else:
            was, remedy = shown(value), ""
        raise TypeError(f"`{argument}` is {was}; it may be a torch.Tensor{remedy}")


def integers(value: Any, count: int, argument: str) -> list[int]:
    """One integer for each of `count` dimensions.

    Raises:
        ValueError: `value` is neither one integer nor `count` of them.
    """
    if type(value) is tuple and len(value) == count and set(map(type, value)) <= _INTEGERS:
        return list(value)  # as modules have it: most calls, decided at once
    try:
        values = [_index(v) for v in (value if _is_sequence(value) else [value])]
    except TypeError:
        values = []
    if len(values) == 1:
        values = values * count
    if len(values) != count:
        raise ValueError(
            f"`{argument}` is {shown(value)}; it may be one integer or {count} of them"
        )
    return values


def number(value: Any, argument: str) -> float:
    """A Python float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{argument}` is {shown(value)}; it may be a number") from None


def need_precision(precision: Any) -> None:
    """Raise ValueError unless `precision` names an arithmetic of products (rules R1 and R9)."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` is {shown(precision)}; it may be 'ieee', 'tensor', 'tensor-A' or "
            "'tensor-H'"
        )


def promoted(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """torch.promote_types, which is an operator that audits see, where there is anything to ask."""
    return one if one == other else torch.promote_types(one, other)


def explain_tensors(op: Any, args: Sequence[Any]) -> None:
    """Raise the error that fits if a tensor argument of `op` is of a kind that no kernel takes.

    For calls that failed or found no kernel: a call that goes well pays nothing for it.
    """
    tensors = [
        (a.name, value, str(a.type).startswith("Optional"))
        for a, value in zip(op._schema.arguments, args, strict=False)
        if "Tensor" in str(a.type)
    ]
    for name, value, optional in tensors:
        if not (optional and value is None):
            need_tensor(name, value)
    present = [(name, value) for name, value, _ in tensors if value is not None]
    for name, value in present:
        if value.is_quantized:
            raise RuntimeError(f"`{name}` is quantized; it may be a floating-point tensor")
        if value.layout != torch.strided:
            raise RuntimeError(f"`{name}` has layout {value.layout}; it may be torch.strided")
        # A compiler wraps tensors too, and unwraps them again.
        if is_traceable_wrapper_subclass(value) and not torch.compiler.is_compiling():
            raise RuntimeError(
                f"`{name}` is {type(value).__name__}, for which bninv has no kernel; it may be a "
                f"torch.Tensor of ordinary numbers. {STOCK_MODEL} quantized or sharded"
            )
    same_device(present)


def explain_value(op: Any, args: Sequence[Any], error: Exception) -> None:
    """Raise TypeError in place of the dispatcher's error of a type, which prints the value."""
    found = _WRONG_TYPE.search(str(error))
    names = [argument.name for argument in op._schema.arguments]
    if found is None or found["name"] not in names[: len(args)]:
        return
    name, kind = found["name"], found["kind"]
    value = args[names.index(name)]
    kinds = _KINDS.get(kind, kind)
    raise TypeError(f"`{name}` is {shown(value)}; it may be {kinds}") from None


def same_device(tensors: Sequence[tuple[str, Tensor]]) -> None:
    """Raise RuntimeError unless all named tensors are on the first one's device."""
    first, device = tensors[0][0], tensors[0][1].device
    for name, value in tensors[1:]:
        if value.device != device:
            raise RuntimeError(
                f"`{name}` is on device {value.device}; it may be on `{first}`'s, {device}"
            )


def _index(value: Any) -> Any:
    # A compiler's symbolic integer stays symbolic.
    return value if isinstance(value, torch.SymInt) else operator.index(value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
