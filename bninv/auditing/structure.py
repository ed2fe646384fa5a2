"""A model's inputs as JSON: nested dicts, lists and tuples, with tensors kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bninv._shown import shown

_PLAIN = (bool, int, float, str, type(None))


def to_plain(value: Any, held: dict[str, Tensor], prefix: str) -> Any:
    """What JSON holds of `value`; its tensors go into `held`, under names of their own.

    Raises:
        ValueError: there is something in it that is neither a tensor nor plain data.
    """
    if isinstance(value, Tensor):
        name = f"{prefix}:{len(held)}"
        held[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_plain(item, held, prefix) for key, item in value.items()}}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [to_plain(item, held, prefix) for item in value]}
    if isinstance(value, _PLAIN):
        return {"value": value}
    raise ValueError(
        f"`inputs` holds {shown(value)}; it may hold tensors, numbers, text, and dicts, lists and "
        "tuples of them"
    )


def from_plain(plain: Any, held: Mapping[str, Tensor]) -> Any:
    """Undo `to_plain`."""
    ((kind, content),) = plain.items()
    if kind == "tensor":
        return held[content]
    if kind == "dict":
        return {key: from_plain(item, held) for key, item in content.items()}
    if kind == "value":
        return content
    items = [from_plain(item, held) for item in content]
    return tuple(items) if kind == "tuple" else items
