"""What a call's arguments look like: a program is made for one structure of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

# A tensor's place, or ("list", structure, ...), ("tuple", structure, ...), ("value", text, value).
Structure = Any

ONE_TENSOR: Structure = (Tensor,)
_VALUES = (type(None), bool, int, float, str)


def structure_of(args: tuple[Any, ...]) -> tuple[Structure | None, tuple[Any, ...]]:
    """The structure of positional arguments, None for what programs are not made for; and
    the tensors in them, in order.
    """
    if len(args) == 1 and type(args[0]) is Tensor:
        return ONE_TENSOR, args
    tensors: list[Any] = []
    parts = tuple(_part(value, tensors) for value in args)
    return (None if None in parts else parts), tuple(tensors)


def _part(value: Any, tensors: list[Any]) -> Structure | None:
    kind = type(value)
    if kind is Tensor:
        tensors.append(value)
        return Tensor
    if kind in _VALUES and value == value:  # no NaN
        return ("value", f"{kind.__name__} {value!r}", value)  # by its text: 0.0 is not -0.0
    if kind in (list, tuple):
        parts = tuple(_part(item, tensors) for item in value)
        return None if None in parts else (kind.__name__, *parts)
    return None


def build(
    structure: Structure, tensor: Callable[[], Any], lend: Callable[[list[Any]], list[Any]]
) -> list[Any]:
    """Arguments of that structure: `tensor` makes each tensor, `lend` hands out each list."""
    made: list[Any] = []
    for part in structure:
        if part is Tensor:
            made.append(tensor())
        elif part[0] == "value":
            made.append(part[2])
        else:
            items = build(part[1:], tensor, lend)
            made.append(lend(items) if part[0] == "list" else tuple(items))
    return made
