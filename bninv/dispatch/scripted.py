"""TorchScript functions that a module's code refers to: their calls run outside Python, unseen.

A scripted or traced function is called without a look at any mode, and under a dispatch mode it is
seen only until its fuser takes over. So it is looked for instead of caught: among what the code of
a module's methods names, in globals, closures, defaults, attributes and containers, and in the code
of the functions found there.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from bninv.dispatch.call_site import is_library

_SCRIPTED = (torch.jit.ScriptFunction, torch.jit.ScriptModule)
# What is called without its name: of an object, and of a torch.autograd.Function by `apply`.
_CALLED = frozenset({"__call__", "forward"})
_DEEP = 3  # containers in containers


def scripted_calls(module: nn.Module, methods: Iterator[tuple[str, Any]]) -> dict[str, str]:
    """The TorchScript functions and modules that `methods` of `module` refer to.

    Submodules that are registered are modules of their own, and not looked at.

    Returns:
        By the name that the code has for each, the line at which that code begins (file:line).
    """
    search = _Search()
    for _, method in methods:
        search.function(method, module)
    return search.found


class _Search:
    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._seen: set[int] = set()

    def function(self, function: FunctionType, owner: Any = None) -> None:
        """Look at all that a function's code refers to; its `self` may be `owner`."""
        code = function.__code__
        if is_library(code.co_filename) or id(function) in self._seen:
            return
        self._seen.add(id(function))
        place = f"{code.co_filename}:{code.co_firstlineno}"
        globals_, names = _names_in(code)
        for name in globals_ & function.__globals__.keys():
            self.value(name, function.__globals__[name], names, place)
        free = zip(code.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in free:
            try:
                self.value(name, cell.cell_contents, names, place)
            except ValueError:  # not assigned yet
                continue
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.value(getattr(value, "name", "a default"), value, names, place)
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            self.function(wrapped, owner)
        if owner is not None:
            self._attributes(owner, names, place)

    def value(
        self, name: str, value: Any, names: frozenset[str], place: str, deep: int = 0
    ) -> None:
        """Look at something that code calls `name`, and that it may ask for `names`."""
        if isinstance(value, _SCRIPTED):
            self.found.setdefault(name, place)
        elif isinstance(value, FunctionType):
            self.function(value)
        elif isinstance(value, MethodType):
            self.value(name, value.__func__, names, place)
            self._object(value.__self__, names, place)
        elif isinstance(value, (staticmethod, classmethod)):
            self.value(name, value.__func__, names, place)
        elif isinstance(value, property):
            self.value(name, value.fget, names, place)
        elif isinstance(value, (functools.partial, functools.partialmethod)):
            for part in (value.func, *value.args, *value.keywords.values()):
                self.value(name, part, names, place, deep)
        elif isinstance(value, (dict, list, tuple, set)):
            if deep < _DEEP:
                for item in list(value.values() if isinstance(value, dict) else value):
                    self.value(name, item, names, place, deep + 1)
        else:
            self._object(value, names, place)

    def _object(self, value: Any, names: frozenset[str], place: str) -> None:
        """Look at the attributes of a module of Python's, a class or any other object."""
        if isinstance(value, ModuleType):
            file = getattr(value, "__file__", None)
            if file is None or is_library(file):
                return
            for name in names & vars(value).keys():
                self.value(name, vars(value)[name], names, place)
            return
        kind = value if isinstance(value, type) else type(value)
        if id(value) in self._seen or not _has_code(kind):
            return
        self._seen.add(id(value))
        self._attributes(value, names | _CALLED, place)

    def _attributes(self, owner: Any, names: frozenset[str], place: str) -> None:
        kind = owner if isinstance(owner, type) else type(owner)
        spaces = [vars(cls) for cls in kind.__mro__ if _has_code(cls)]
        for space in (getattr(owner, "__dict__", {}), *spaces):
            for name in names & space.keys():
                value = space[name]
                if isinstance(value, FunctionType):
                    self.function(value, owner)
                else:
                    self.value(name, value, names, place)


@functools.cache
def _names_in(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The globals, and the attributes, that a function's code asks for, and functions within it."""
    globals_, attributes = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_.add(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _names_in(constant)
            globals_ |= inner[0]
            attributes |= inner[1]
    return frozenset(globals_), frozenset(attributes)


def _has_code(kind: type) -> bool:
    """Whether a class may be a user's: neither built in nor of torch's."""
    package = kind.__module__.partition(".")[0]
    return package not in ("builtins", "torch", "bninv", "numpy", "typing", "abc", "collections")
