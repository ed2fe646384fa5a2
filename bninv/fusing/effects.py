"""Whether code does anything besides computing its result.

A program replays the calls that a block's code made; whatever else the code did (a counter that it
raised, a line that it printed) would happen no more. Code of torch, torchvision and timm is
trusted; other code is watched while it runs, and what cannot be told to be harmless is refused.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

from bninv.dispatch import table
from bninv.exact import names
from bninv.fusing.code import BUILTINS, GlobalRead, faults, is_trusted_name
from bninv.fusing.errors import Unfusable

T = TypeVar("T")

_PLAIN = (str, list, tuple, dict, set, frozenset, int, float)
_MODULES = frozenset({"math", "_operator", "itertools", "_functools"})
# Python code that watched code may call: it makes tensors of tensors, or is what records.
_CALLED = (
    *("torch.nn.functional", "torch.functional", "torch.overrides", "torch.fx.", "torch.nn."),
    *("timm.layers.", "torchvision.ops.", "bninv.fusing."),
)
_SAME_WHENEVER_PROGRAMS_RUN = names("is_scripting is_tracing is_compiling")
# In the globals of a function that was given others: those that it had.
ORIGINAL_GLOBALS = "__bninv_globals__"


class Watch:
    """Runs code under observation; `globals_read` is what the result depends on besides.

    Watching makes Python several times slower: `needed` says whether there is code to watch.
    """

    def __init__(self, needed: bool) -> None:
        self.needed = needed
        self.globals_read: dict[tuple[int, str], GlobalRead] = {}
        self._seen: set[CodeType] = set()

    def run(self, function: Callable[[], T]) -> T:
        """Raises Unfusable for code that may do something besides."""
        if not self.needed:
            return function()
        reasons: list[str] = []

        # Called before the code that it is about runs, which an error here prevents.
        def notice(frame: FrameType, event: str, function: Any) -> None:
            if event == "call":
                reasons.extend(self._called(frame))
            elif event == "c_call" and not _is_trusted(frame) and not _is_harmless(function):
                reasons.append(f"it calls {getattr(function, '__qualname__', function)}")
            if reasons:
                raise Unfusable(reasons[0])

        # A collection would run code that has nothing to do with what is watched: other objects'
        # finalizers and callbacks.
        collects = gc.isenabled()
        gc.disable()
        sys.setprofile(notice)  # of this thread only
        try:
            result = function()
        finally:
            sys.setprofile(None)
            if collects:
                gc.enable()
        if reasons:  # and the code caught the error
            raise Unfusable(reasons[0])
        return result

    def _called(self, frame: FrameType) -> list[str]:
        code, name = frame.f_code, str(frame.f_globals.get("__name__", ""))
        if _is_trusted(frame):
            known = name.startswith(_CALLED) or code.co_name in _SAME_WHENEVER_PROGRAMS_RUN
            return [] if known or _is_trusted(frame.f_back) else [f"it calls {code.co_name}"]
        if code in self._seen:
            return []
        self._seen.add(code)
        reasons = []
        module_globals = frame.f_globals.get(ORIGINAL_GLOBALS, frame.f_globals)
        for found in faults(code, module_globals, frame.f_locals):
            if isinstance(found, str):
                reasons.append(f"{found} ({code.co_filename}:{frame.f_lineno})")
            else:
                self.globals_read[id(found[0]), found[1]] = found
        return reasons


def _is_trusted(frame: FrameType | None) -> bool:
    """Whether code belongs to a trusted package, or to the standard library and serves one."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        # collections.namedtuple runs its methods in modules of their own.
        if package not in sys.stdlib_module_names and not package.startswith("namedtuple_"):
            return is_trusted_name(package)
        frame = frame.f_back
    return False


def _is_harmless(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    if module == "builtins":
        return function.__name__ in BUILTINS or function.__name__ == "__build_class__"
    if module is None and isinstance(getattr(function, "__self__", None), _PLAIN):
        return True  # a method of an object
    if function.__name__ == "is_grad_enabled":  # has a row, since it computes nothing
        return False
    return module in _MODULES or table.row_of(function) is not None
