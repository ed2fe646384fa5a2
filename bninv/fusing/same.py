"""Whether a value is still what it was when it was recorded."""

from __future__ import annotations

from typing import Any

import torch


def same(value: Any, recorded: Any) -> bool:
    """Equal in a way that code cannot tell apart: 2 is not 2.0, nor 0.0 the same as -0.0."""
    kind = type(recorded)
    if type(value) is not kind:
        return False
    if kind is float:
        return bool(value.hex() == recorded.hex())
    if kind in (tuple, list):
        return len(value) == len(recorded) and all(map(same, value, recorded))
    if kind in (int, str, torch.Size, torch.device):
        return bool(value == recorded)
    return value is recorded


def is_missing(module: Any, name: str) -> bool:
    """Whether a module has no attribute of its own by that name."""
    own = vars(module)
    kinds = (own, own["_modules"], own["_parameters"], own["_buffers"])
    return all(name not in kind for kind in kinds)
