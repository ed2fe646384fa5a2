"""Which code is traced: torch's, torchvision's and timm's own, and what the user vouches for."""

from __future__ import annotations

import dis
import functools
from types import CodeType, FunctionType

# Of code in these packages it is known that its result is all that it computes.
TRUSTED = ("torch", "torchvision", "timm", "bninv")
# What code can ask of PyTorch without a tensor, and no trace would notice.
_ASKS = frozenset(
    (
        *("is_grad_enabled", "is_inference_mode_enabled", "get_default_dtype"),
        *("is_autocast_enabled", "is_autocast_cpu_enabled", "get_autocast_dtype"),
        *("are_deterministic_algorithms_enabled", "initial_seed", "get_num_threads"),
    )
)


def is_trusted_name(module: str, trust: tuple[str, ...]) -> bool:
    """Whether a module, by its name, is in a trusted package, or is one of those in `trust`."""
    return any(module == name or module.startswith(f"{name}.") for name in (*TRUSTED, *trust))


@functools.lru_cache(maxsize=4096)
def untrusted(stock: type, trust: tuple[str, ...]) -> str | None:
    """The first module that nobody vouches for of a class's, its bases' and their functions'."""
    for cls in stock.__mro__[:-1]:
        functions = (v for v in vars(cls).values() if isinstance(v, FunctionType))
        # A function that wraps another one may bear that one's __module__.
        for module in (cls.__module__, *(str(f.__globals__.get("__name__")) for f in functions)):
            if not is_trusted_name(module, trust):
                return module
    return None


@functools.lru_cache(maxsize=4096)
def unseen(code: CodeType) -> str | None:
    """Why even trusted code is not traced: it looks at what proxies cannot see, or changes more.

    `a is b` asks no proxy; neither does a mode.
    """
    asked = _ASKS.intersection(code.co_names)
    if asked:
        return f"it asks for {min(asked)}"
    before = ("", None)
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IS_OP" and before != ("LOAD_CONST", None):
            return "it compares by `is`"
        if instruction.opname == "STORE_GLOBAL":
            return f"it sets the global {instruction.argval}"
        before = (instruction.opname, instruction.argval)
    inner = (unseen(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return next((reason for reason in inner if reason), None)
