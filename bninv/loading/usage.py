"""The error of wrong usage: one clear line, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What the user gave cannot be used. The message is one line and says what may be given."""


def one_line(error: BaseException) -> str:
    """An error's text for the user, of a bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 600 else text[:599] + "…"


def near_matches(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b or c?`, or nothing where no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not matches:
        return ""
    *head, last = matches
    return f"; did you mean {', '.join(head)} or {last}?" if head else f"; did you mean {last}?"
