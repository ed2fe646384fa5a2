"""What happens to a call that the contract does not reach."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from bninv._arguments import Precision
from bninv.dispatch.call_site import calling_line


class NotInvariantWarning(UserWarning):
    """Something in a patched model stays stock, and its results may move with the batch."""


class NotInvariantError(ValueError):
    """Strictness was asked for, and something cannot be made invariant."""


@dataclass
class UncoveredCall:
    """An operator without a row in the table: how often it ran, and where first (file:line).

    A TorchScript function has a count of 0: it runs unseen, and `first` is where its caller begins.
    """

    operator: str
    count: int
    first: str


class Policy:
    """Warns of uncovered operators, once each, or raises; keeps the list. Shared by a model.

    Args:
        strict: raise at the first.
        gathers: warn when told to `tell`, of all that came together; else at once.
        precision: of the products that R9 reaches.
    """

    def __init__(
        self, strict: bool = False, *, gathers: bool = False, precision: Precision = "ieee"
    ) -> None:
        self.strict = strict
        self.gathers = gathers
        self.precision: Precision = precision
        self.found: dict[str, UncoveredCall] = {}
        self._untold: list[UncoveredCall] = []

    @property
    def uncovered(self) -> list[UncoveredCall]:
        """What ran uncovered so far, in order of first occurrence."""
        return list(self.found.values())

    def note(self, operator: str, place: str | None = None) -> None:
        """Record a call, made at `place` (file:line) or by the line that is running.

        Raises:
            NotInvariantError: under `strict`.
        """
        entry = self.found.get(operator)
        if entry is not None and not self.strict:
            with _lock:
                entry.count += 1
            return
        file, line = _place(place)
        what = f"{operator} is not covered: its result may move with the batch"
        if self.strict:
            raise NotInvariantError(f"{what} ({file}:{line})")
        with _lock:
            entry = self.found.setdefault(operator, UncoveredCall(operator, 0, f"{file}:{line}"))
            entry.count += 1
            if self.gathers and entry.count == 1:
                self._untold.append(entry)
        if not self.gathers and entry.count == 1:
            warnings.warn_explicit(what, NotInvariantWarning, file, line)

    def foresee(self, functions: Mapping[str, str]) -> None:
        """Record functions that will run unseen, by name, each with the place of its caller."""
        for name, place in functions.items():
            self.found.setdefault(
                f"torch.jit::{name}", UncoveredCall(f"torch.jit::{name}", 0, place)
            )

    def tell(self) -> None:
        """Warn once of all operators that were noted since the last time, if there are any.

        Warns:
            NotInvariantWarning: at the line that ran the model; for one, at that which called it.
        """
        with _lock:
            untold, self._untold = self._untold, []
        if not untold:
            return
        if len(untold) == 1:
            file, number = _place(untold[0].first)
            text = f"{untold[0].operator} is not covered: its result may move with the batch"
            warnings.warn_explicit(text, NotInvariantWarning, file, number)
            return
        file, line, _ = calling_line() or ("<unknown>", 1, {})
        calls = "".join(f"\n  {call.operator} ({call.first})" for call in untold)
        what = "operators are not covered, and their results may move with the batch"
        text = f"{len(untold)} {what}:{calls}"
        warnings.warn_explicit(text, NotInvariantWarning, file, line)

    def lost(self, operator: str, route: str) -> NotInvariantError:
        """The error for a route on which uncovered calls could not even be seen."""
        return NotInvariantError(
            f"{operator} is not covered, and {route} would lose the warning: its result may move "
            "with the batch. Run the model eagerly, or leave this call out of the patched model"
        )


def _place(text: str | None) -> tuple[str, int]:
    if text is None:
        file, line, _ = calling_line() or ("<unknown>", 1, {})
        return file, line
    file, _, number = text.rpartition(":")
    return file, int(number)


_lock = threading.Lock()
