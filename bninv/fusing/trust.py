"""Which code is traced: torch's, torchvision's and timm's own, and what the user vouches for."""

from __future__ import annotations

import dis
import functools
from types import CodeType, FunctionType

# Of code in these packages it is known that its result is all that it computes.
_TRUSTED = ("torch", "torchvision", "timm", "bninv")
_SEEN = ("LOAD_CONST", None)


def is_trusted(package: str, trust: tuple[str, ...]) -> bool:
    """Whether a module, by its name, is in a trusted package, or is one of those in `trust`."""
    return any(package == name or package.startswith(f"{name}.") for name in (*_TRUSTED, *trust))


@functools.lru_cache(maxsize=4096)
def untrusted(stock: type, trust: tuple[str, ...]) -> str | None:
    """The first module that nobody vouches for of a class's, its bases' and their functions'."""
    for cls in stock.__mro__[:-1]:
        functions = (v for v in vars(cls).values() if isinstance(v, FunctionType))
        # A function that wraps another one may bear that one's __module__.
        for package in (cls.__module__, *(str(f.__globals__.get("__name__")) for f in functions)):
            if not is_trusted(package, trust):
                return package
    return None


@functools.lru_cache(maxsize=4096)
def unseen(code: CodeType) -> str | None:
    """What code does that no proxy is asked for: `a is b`, and setting a global."""
    before = _SEEN
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IS_OP" and before != _SEEN:
            return "it compares by `is`"
        if instruction.opname == "STORE_GLOBAL":
            return f"it sets the global {instruction.argval}"
        before = (instruction.opname, instruction.argval)
    inner = (unseen(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return next((reason for reason in inner if reason), None)
