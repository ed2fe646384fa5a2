"""What a call's arguments look like: a program is made for one structure of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

# A tensor's place, or ("list", structure, ...), ("tuple", structure, ...), ("value", text, value).
Structure = Any

ONE_TENSOR: Structure = (Tensor,)
_VALUES = (type(None), bool, int, float, str)


def structure_of(args: tuple[Any, ...]) -> Structure | None:
    """The structure of positional arguments; None for what programs are not made for."""
    if len(args) == 1 and type(args[0]) is Tensor:
        return ONE_TENSOR
    parts = tuple(_part(value) for value in args)
    return None if None in parts else parts


def _part(value: Any) -> Structure | None:
    kind = type(value)
    if kind is Tensor:
        return Tensor
    if kind in _VALUES and value == value:  # no NaN
        return ("value", f"{kind.__name__} {value!r}", value)  # by its text: 0.0 is not -0.0
    if kind in (list, tuple):
        parts = tuple(_part(item) for item in value)
        return None if None in parts else (kind.__name__, *parts)
    return None


def build(
    structure: Structure,
    tensor: Callable[[str], Any],
    lend: Callable[[str, list[Any]], list[Any]],
    place: str = "args",
) -> list[Any]:
    """Arguments of that structure.

    Args:
        tensor: makes a tensor, given how to reach it.
        lend: what becomes of a list.
    """
    made = []
    for i, part in enumerate(structure):
        here = f"{place}[{i}]"
        if part is Tensor:
            made.append(tensor(here))
        elif part[0] == "value":
            made.append(part[2])
        else:
            items = build(part[1:], tensor, lend, here)
            made.append(lend(here, items) if part[0] == "list" else tuple(items))
    return made
