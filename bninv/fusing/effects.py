"""Whether code does anything besides computing its result.

A program replays the calls that a block's code made; whatever else the code did (a counter that it
raised, a line that it printed) would happen no more. Code of torch, torchvision and timm is
trusted; other code is watched while it runs, and what cannot be told to be harmless is refused.
"""

from __future__ import annotations

import builtins
import dis
import functools
import gc
import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any, TypeVar

import torch

from bninv.exact import names
from bninv.fusing.errors import Unfusable

T = TypeVar("T")

_TRUSTED = ("torch", "torchvision", "timm", "bninv")
_STORES = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")
_BUILTINS = names(
    """abs all any bool callable dict divmod enumerate filter float frozenset getattr hasattr int
    isinstance issubclass iter len list map max min next pow range reversed round set slice sorted
    str sum super tuple type zip"""
)
# Modes and random numbers; in the second list what is the same whenever programs run.
_STATE = ("is_", "_is_", "are_", "get_", "_get_", "set_", "rand", "normal", "bernoulli", "seed")
_WITHOUT_STATE = names(
    "is_scripting is_tracing is_compiling is_tensor is_floating_point is_complex is_storage"
)
_PLAIN = (str, list, tuple, dict, set, frozenset, int, float)
_MODULES = frozenset({"math", "_operator", "itertools", "_functools"})
_CONSTANTS = (type(None), bool, int, float, str, torch.dtype, torch.device)
_CALLABLES = (ModuleType, type, FunctionType, BuiltinFunctionType, functools.partial)


def is_trusted(function: Any) -> bool:
    """Whether a function or class is of a trusted package."""
    return str(getattr(function, "__module__", "")).partition(".")[0] in _TRUSTED


class Watch:
    """Runs code under observation; `globals_read` is what the result depends on besides.

    Watching makes Python several times slower: `needed` says whether there is code to watch.
    """

    def __init__(self, needed: bool) -> None:
        self.needed = needed
        self.globals_read: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
        self._seen: set[CodeType] = set()

    def run(self, function: Callable[[], T]) -> T:
        """Raises Unfusable for code that may do something besides."""
        if not self.needed:
            return function()
        reasons: list[str] = []

        # Called before the code that it is about runs, which an error here prevents.
        def notice(frame: FrameType, event: str, function: Any) -> None:
            if _is_trusted(frame):
                name = frame.f_code.co_name
                if event == "call" and _reads_state(name) and not _is_trusted(frame.f_back):
                    reasons.append(f"it calls {name}")
            elif event == "call" and frame.f_code not in self._seen:
                self._seen.add(frame.f_code)
                reasons.extend(self._faults(frame))
            elif event == "c_call" and not _is_harmless(function):
                reasons.append(f"it calls {getattr(function, '__qualname__', function)}")
            if reasons:
                raise Unfusable(reasons[0])

        # A collection would run code that has nothing to do with what is watched: other objects'
        # finalizers and callbacks.
        before, collects = sys.getprofile(), gc.isenabled()
        gc.disable()
        sys.setprofile(notice)  # of this thread only
        try:
            result = function()
        finally:
            sys.setprofile(before)
            if collects:
                gc.enable()
        if reasons:  # and the code caught the error
            raise Unfusable(reasons[0])
        return result

    def _faults(self, frame: FrameType) -> Iterator[str]:
        where = f"line {frame.f_lineno} of {frame.f_code.co_filename}"
        for name in frame.f_code.co_freevars:  # of the function around it
            if name != "__class__" and not isinstance(frame.f_locals.get(name), _CALLABLES):
                yield f"it reads the variable {name} ({where})"
        for instruction in dis.get_instructions(frame.f_code):
            if instruction.opname in _STORES:
                yield f"it sets {instruction.argval} ({where})"
            if instruction.opname != "LOAD_GLOBAL":
                continue
            name = instruction.argval
            if name not in frame.f_globals:
                value = getattr(builtins, name, None)
                if not isinstance(value, type) and name not in _BUILTINS:
                    yield f"it calls {name} ({where})"
                continue
            value = frame.f_globals[name]
            if isinstance(value, _CONSTANTS):
                key = (id(frame.f_globals), name)
                self.globals_read[key] = (frame.f_globals, name, value)
            elif not isinstance(value, _CALLABLES) and type(value).__module__ != "typing":
                yield f"it reads the variable {name} ({where})"


def _is_trusted(frame: FrameType | None) -> bool:
    """Whether code belongs to a trusted package, or to the standard library and serves one."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        # collections.namedtuple runs its methods in modules of their own.
        if package not in sys.stdlib_module_names and not package.startswith("namedtuple_"):
            return package in _TRUSTED
        frame = frame.f_back
    return False


def _reads_state(name: str) -> bool:
    """Whether a function of torch's answers by more than its arguments, going by its name."""
    return name.startswith(_STATE) and name not in _WITHOUT_STATE


def _is_harmless(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    if _reads_state(function.__name__):
        return False
    if module == "builtins":
        return function.__name__ in _BUILTINS or function.__name__ == "__build_class__"
    if module is None:  # a method of an object
        return isinstance(getattr(function, "__self__", None), _PLAIN)
    return module in _MODULES or str(module).partition(".")[0] == "torch"
