"""Functional calls: `x.mean((2, 3))`, `F.softmax(x)` and others that no module swap reaches.

One table (`table`) says what becomes of each of PyTorch's functions: it is exact and passes, it has
an operator of bninv's and becomes that, or it has no row and counts as uncovered. Two front ends
feed on it. `Catch` sees what Python code calls, for about a microsecond a call, and is what patched
models run under. `Net` sees every operator inside PyTorch, for 5 to 17 microseconds each; it takes
apart the calls that have no row of their own.
"""

from __future__ import annotations

from bninv.dispatch.catch import Invariant, invariant
from bninv.dispatch.modules import Excluded, Protected, SeenByCalls
from bninv.dispatch.policy import NotInvariantError, NotInvariantWarning, Policy, UncoveredCall
from bninv.dispatch.tracing import unprotected_nodes

__all__ = [
    "Excluded",
    "Invariant",
    "NotInvariantError",
    "NotInvariantWarning",
    "Policy",
    "Protected",
    "SeenByCalls",
    "UncoveredCall",
    "invariant",
    "unprotected_nodes",
]
