"""What a call's arguments look like: a program is made for one structure of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

# A tensor's place, or ("list", structure, ...), ("tuple", structure, ...), ("value", type, value).
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
    if kind in _VALUES:
        return ("value", kind, value)
    if kind in (list, tuple):
        parts = tuple(_part(item) for item in value)
        return None if None in parts else (kind.__name__, *parts)
    return None


def build(structure: Structure, tensor: Callable[[str], Any], place: str = "args") -> list[Any]:
    """Arguments of that structure. `tensor(place)` makes a tensor; `place` is how to reach it."""
    return [_build(part, tensor, f"{place}[{i}]") for i, part in enumerate(structure)]


def _build(part: Structure, tensor: Callable[[str], Any], place: str) -> Any:
    if part is Tensor:
        return tensor(place)
    if part[0] == "value":
        return part[2]
    items = build(part[1:], tensor, place)
    return items if part[0] == "list" else tuple(items)
