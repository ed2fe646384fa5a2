"""Whether functional calls are being caught in this thread, and stepping out of that for a while.

A patched module calls bninv's operators itself: inside it there is nothing to catch, and catching
costs about a microsecond a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.overrides import TorchFunctionMode

from bninv import _torch


class Protection(TorchFunctionMode):
    """Base of the mode in `bninv.dispatch` that catches functional calls."""

    of_model = False  # whether a patched module has put it in place, and not the user
    policy: Any  # what becomes of the calls


# Called at every patched module: names of this module's own are found sooner.
_depth, _at, _pop, _push = _torch.modes, _torch.mode_at, _torch.pop_mode, _torch.push_mode


def active() -> Protection | None:
    """The protection that is innermost in this thread, if it is the innermost mode."""
    depth = _depth()
    if depth == 0:
        return None
    mode = _at(depth - 1)
    return mode if isinstance(mode, Protection) else None


def step_out() -> Protection | None:
    """Leave the innermost protection, if one is active; give the result to `step_in` afterwards."""
    if _depth() == 0:
        return None
    mode = _pop()
    if isinstance(mode, Protection):
        return mode
    _push(mode)
    return None


@contextlib.contextmanager
def outside_all_modes() -> Iterator[None]:
    """For code that is handed no tensors: no mode of this thread, bninv's or other, sees it."""
    modes = [_pop() for _ in range(_depth())]
    try:
        yield
    finally:
        for mode in reversed(modes):
            _push(mode)


def step_in(protection: Protection | None) -> None:
    """Undo `step_out`. Returns None, which is what is left to step into."""
    if protection is not None:
        _push(protection)
