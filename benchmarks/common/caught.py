"""The calls of a model's own code that bninv's protection catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bninv.dispatch.catch import Catch

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def caught_calls(run: Callable[[], Any]) -> list[Call]:
    """The functions that a run hands to the table, with their arguments."""
    calls: list[Call] = []
    original = Catch.__torch_function__

    def keeping(
        self: Any, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        calls.append((func, args, kwargs or {}))
        return original(self, func, types, args, kwargs)

    Catch.__torch_function__ = keeping  # type: ignore[method-assign]
    try:
        run()
    finally:
        Catch.__torch_function__ = original  # type: ignore[method-assign]
    return calls
