"""Tensors in what models take and give: dicts, lists, tuples, named tuples, dataclasses, nested.

A mapping that is a dataclass as well, as the outputs of Hugging Face's models are, counts as a
mapping: its fields that are None are not in it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def leaves(value: Any, path: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in `value`, with how one gets at it from `path`: `output['more'][0]`."""
    if isinstance(value, Tensor):
        yield path, value
        return
    for step, item in _items(value):
        yield from leaves(item, f"{path}{step}")


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in `value`."""
    return [tensor for _, tensor in leaves(value)]


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with `function` of every tensor in its place, and all else as it was."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        mapped = {key: map_tensors(function, item) for key, item in value.items()}
        if type(value) is dict or not hasattr(value, "__setitem__"):
            return mapped
        # A class of its own may need more than its items to be made.
        made: Any = copy.copy(value)
        for key, item in mapped.items():
            made[key] = item
        return made
    if isinstance(value, (tuple, list)):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if _is_dataclass(value):
        made = copy.copy(value)
        for field in dataclasses.fields(value):
            # Also where the dataclass is frozen.
            object.__setattr__(made, field.name, map_tensors(function, getattr(value, field.name)))
        return made
    return value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", None)
        for index, item in enumerate(value):
            yield f".{names[index]}" if names else f"[{index}]", item
    elif _is_dataclass(value):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name, None)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
