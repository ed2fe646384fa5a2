"""A module that something was not done to, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """Base of what is said of such a module."""

    name: str  # qualified; "" is the model itself
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name or '(the model itself)'} ({self.kind}): {self.reason}"
