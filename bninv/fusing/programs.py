"""The programs of one block."""

from __future__ import annotations

import threading
from typing import Any

from bninv import _torch
from bninv.dispatch.blocks import UNFIT
from bninv.fusing.program import Outcome, make
from bninv.fusing.proxies import modes
from bninv.fusing.structure import Structure, structure_of

# One thread makes programs, and whoever needs them as well waits. Re-entrant: code that is traced
# may call another patched model.
_lock = threading.RLock()

# A block that is changed, or called in another way, more often than that is left to its own code.
_MOST = 8
_LEFT_ALONE = Outcome(reason="it keeps changing, or is called in too many ways")


class Programs:
    """By the structure of the arguments and the modes; made when they are needed.

    A program is bound to the modules of its block: copies and pickles make their own, and what
    shares a block's attributes without being it (a replica of DataParallel's) runs its own code.
    """

    def __init__(self, block: Any, trust: tuple[str, ...] = ()) -> None:
        self.trust = trust
        self._block = block
        # For each several, of a block that has changed.
        self._made: dict[tuple[Structure, Any], list[Outcome]] = {}
        self._left = _MOST

    def __reduce__(self) -> Any:
        return Programs, (self._block, self.trust)

    def run(self, block: Any, args: tuple[Any, ...]) -> Any:
        """The block's result, or UNFIT: its own code is to run."""
        structure, tensors = structure_of(args)
        if structure is None or block is not self._block or _is_observed():
            return UNFIT
        key = structure, modes()
        known = self._made.get(key)
        for outcome in known or ():
            result = UNFIT if outcome.program is None else outcome.program.run(tensors)
            if result is not UNFIT or outcome.program is None:
                return result
        program = self._add(key, known).program
        return UNFIT if program is None else program.run(tensors)

    def outcomes(self, structure: Structure) -> list[Outcome]:
        """What became of the calls so far, or would of a first one of that structure."""
        if not self._made:
            return [make(self._block, structure, self.trust)]
        found = []
        for (made_for, _), known in list(self._made.items()):
            fitting = (o for o in known if o.program is None or o.program.guard.holds())
            outcome = next(fitting, _LEFT_ALONE)
            if outcome is _LEFT_ALONE and self._left > 0:
                outcome = make(self._block, made_for, self.trust)
            found.append(outcome)
        return found

    def _add(self, key: tuple[Structure, Any], known: list[Outcome] | None) -> Outcome:
        if self._left <= 0:
            return _LEFT_ALONE
        with _lock:
            if self._made.get(key) is not known:  # another thread was here first
                return self._made[key][0]
            self._left -= 1
            outcome = make(self._block, key[0], self.trust)
            self._made[key] = [outcome, *(known or ())]
        return outcome


def _is_observed() -> bool:
    """Whether something looks at single calls."""
    return _torch.tracing_state() is not None or _torch.has_global_hooks()
