"""What happens to a call that the contract does not reach."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass

from bninv.dispatch.call_site import calling_line


class NotInvariantWarning(UserWarning):
    """Something in a patched model stays stock, and its results may move with the batch."""


class NotInvariantError(ValueError):
    """Strictness was asked for, and something cannot be made invariant."""


@dataclass
class UncoveredCall:
    """An operator without a row in the table: how often it ran, and where first (file:line)."""

    operator: str
    count: int
    first: str


class Policy:
    """Warns of uncovered operators, once each, or raises; keeps the list. Shared by a model."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.found: dict[str, UncoveredCall] = {}

    @property
    def uncovered(self) -> list[UncoveredCall]:
        """What ran uncovered so far, in order of first occurrence."""
        return list(self.found.values())

    def note(self, operator: str) -> None:
        """Record a call.

        Raises:
            NotInvariantError: under `strict`.
        """
        entry = self.found.get(operator)
        if entry is not None and not self.strict:
            with _lock:
                entry.count += 1
            return
        file, line, _ = calling_line() or ("<unknown>", 1, {})
        what = f"{operator} is not covered: its result may move with the batch"
        if self.strict:
            raise NotInvariantError(f"{what} ({file}:{line})")
        self.found[operator] = UncoveredCall(operator, 1, f"{file}:{line}")
        warnings.warn_explicit(what, NotInvariantWarning, file, line)

    def lost(self, operator: str, route: str) -> NotInvariantError:
        """The error for a route on which uncovered calls could not even be seen."""
        return NotInvariantError(
            f"{operator} is not covered, and {route} would lose the warning: its result may move "
            "with the batch. Run the model eagerly, or leave this call out of the patched model"
        )


_lock = threading.Lock()
