"""A value in an error message: short whatever it is, since it may be an image or a thousand."""

from __future__ import annotations

import reprlib
from typing import Any

_LONGEST = 120


def shown(value: Any) -> str:
    """A value as a message names it: its text where that is short, its type, an array's shape."""
    if value is None:
        return "None"
    if is_array(value):
        return f"{_named(value)} of shape {tuple(value.shape)}"
    return f"{short(_SHORT.repr(value))} ({type(value).__name__})"


def short(text: str) -> str:
    """Text that somebody else made of a value, of a bearable length."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def is_array(value: Any) -> bool:
    """Whether it is an array or a tensor, of any library, and not one number alone."""
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) > 0 and hasattr(value, "dtype")


def _named(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


class _Short(reprlib.Repr):
    """Cuts long texts and sequences, and names the arrays in them instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 8
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        return f"<{_named(x)}>" if is_array(x) else super().repr1(x, level)


_SHORT = _Short()
