"""What a function's code may do for its calls to be recorded, going by its instructions.

Lists of what is allowed, not of what is refused: an instruction that a newer Python has, or that
nobody thought of, leaves a block with its own code.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import torch

from bninv.exact import names

BUILTINS = names(
    """abs all any bool dict divmod enumerate float frozenset getattr hasattr int isinstance
    issubclass len list map max min pow range reversed round set slice sorted str sum super tuple
    type zip AssertionError ValueError RuntimeError TypeError NotImplementedError"""
)
CALLABLES = (type, FunctionType, BuiltinFunctionType)
_CONSTANTS = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.memory_format)
# What a name in a module of torch's may stand for: not for a setting.
_FIXED = (*CALLABLES, torch.dtype, torch.layout, torch.memory_format)

# Of Python 3.10 to 3.13. Nothing is imported, stored outside of the function's own variables and
# containers, handled as an error, or entered as a context.
_ALLOWED = names(
    """BINARY_ADD BINARY_AND BINARY_FLOOR_DIVIDE BINARY_LSHIFT BINARY_MATRIX_MULTIPLY BINARY_MODULO
    BINARY_MULTIPLY BINARY_OP BINARY_OR BINARY_POWER BINARY_RSHIFT BINARY_SLICE BINARY_SUBSCR
    BINARY_SUBTRACT BINARY_TRUE_DIVIDE BINARY_XOR BUILD_CONST_KEY_MAP BUILD_LIST BUILD_MAP BUILD_SET
    BUILD_SLICE BUILD_STRING BUILD_TUPLE CACHE CALL CALL_FUNCTION CALL_FUNCTION_EX CALL_FUNCTION_KW
    CALL_INTRINSIC_1 CALL_KW CALL_METHOD COMPARE_OP CONTAINS_OP CONVERT_VALUE COPY COPY_FREE_VARS
    DELETE_FAST DICT_MERGE DUP_TOP DUP_TOP_TWO END_FOR EXTENDED_ARG FORMAT_SIMPLE FORMAT_VALUE
    FORMAT_WITH_SPEC FOR_ITER GET_ITER GET_LEN INPLACE_ADD INPLACE_AND INPLACE_FLOOR_DIVIDE
    INPLACE_LSHIFT INPLACE_MATRIX_MULTIPLY INPLACE_MODULO INPLACE_MULTIPLY INPLACE_OR INPLACE_POWER
    INPLACE_RSHIFT INPLACE_SUBTRACT INPLACE_TRUE_DIVIDE INPLACE_XOR IS_OP JUMP_ABSOLUTE
    JUMP_BACKWARD JUMP_BACKWARD_NO_INTERRUPT JUMP_FORWARD JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP
    KW_NAMES LIST_APPEND LIST_EXTEND LIST_TO_TUPLE LOAD_ASSERTION_ERROR LOAD_ATTR LOAD_CLOSURE
    LOAD_CONST LOAD_DEREF LOAD_FAST LOAD_FAST_AND_CLEAR LOAD_FAST_CHECK LOAD_FAST_LOAD_FAST
    LOAD_GLOBAL LOAD_METHOD LOAD_SUPER_ATTR MAKE_CELL MAKE_FUNCTION MAP_ADD NOP
    POP_JUMP_BACKWARD_IF_FALSE POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE
    POP_JUMP_BACKWARD_IF_TRUE
    POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE
    POP_JUMP_FORWARD_IF_TRUE POP_JUMP_IF_FALSE POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE
    POP_JUMP_IF_TRUE POP_TOP PRECALL PUSH_NULL RAISE_VARARGS RESUME RETURN_CONST RETURN_VALUE
    ROT_FOUR ROT_N ROT_THREE ROT_TWO SET_FUNCTION_ATTRIBUTE STORE_DEREF STORE_FAST
    STORE_FAST_LOAD_FAST STORE_FAST_STORE_FAST STORE_SUBSCR SWAP TO_BOOL UNARY_INVERT UNARY_NEGATIVE
    UNARY_NOT UNPACK_SEQUENCE"""
)
_HANDLES_ERRORS = names("CHECK_EXC_MATCH JUMP_IF_NOT_EXC_MATCH")

GlobalRead = tuple[dict[str, Any], str, Any]  # the globals, a name, and its value


@functools.lru_cache(maxsize=4096)
def branches_unseen(code: CodeType) -> str | None:
    """Why even trusted code cannot be recorded: it takes a branch in a way that proxies cannot see.

    `a is b` asks no proxy; an error that a proxy raises is handled as if a tensor had raised it.
    """
    before: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in _HANDLES_ERRORS:
            return "it handles errors"
        if instruction.opname == "IS_OP" and not _is_none(before):
            return "it compares by `is`"
        before = instruction
    return None


def _is_none(instruction: dis.Instruction | None) -> bool:
    return (
        instruction is not None
        and instruction.opname == "LOAD_CONST"
        and instruction.argval is None
    )


def faults(
    code: CodeType, module_globals: dict[str, Any], local: dict[str, Any]
) -> Iterator[str | GlobalRead]:
    """Why code that nobody vouches for cannot be recorded; and the globals that it reads."""
    unseen = branches_unseen(code)
    if unseen is not None:
        yield unseen
    for name in code.co_freevars:  # of the function around it
        if name != "__class__" and not isinstance(local.get(name), CALLABLES):
            yield f"it reads the variable {name}"
    instructions = list(dis.get_instructions(code))
    for i, instruction in enumerate(instructions):
        if instruction.opname not in _ALLOWED:
            what = f" {instruction.argval}" if isinstance(instruction.argval, str) else ""
            yield f"its code has {instruction.opname}{what}"
        elif instruction.argval in ("__class__", "__dict__") and "ATTR" in instruction.opname:
            yield f"it reads {instruction.argval}"
        elif instruction.opname == "LOAD_GLOBAL":
            yield from _global(instruction.argval, module_globals, instructions[i + 1 :])


def _global(
    name: str, module_globals: dict[str, Any], rest: Sequence[dis.Instruction]
) -> Iterator[str | GlobalRead]:
    if name not in module_globals:
        if name not in BUILTINS or not hasattr(builtins, name):
            yield f"it calls {name}"
        return
    value = module_globals[name]
    yield module_globals, name, value
    trusted = False
    for instruction in rest:
        if instruction.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        name = f"{name}.{instruction.argval}"
        if not isinstance(value, ModuleType):
            yield f"it reads {name}"
            return
        trusted = is_trusted_name(value.__name__) or value.__name__ in sys.stdlib_module_names
        owner, value = value, getattr(value, instruction.argval, None)
        yield vars(owner), instruction.argval, value
    fixed = isinstance(value, (ModuleType, *_FIXED)) or type(value).__module__ == "typing"
    number = isinstance(value, float) if trusted else isinstance(value, _CONSTANTS)
    if not (fixed or number):
        yield f"it reads {name}"


_TRUSTED = ("torch", "torchvision", "timm", "bninv")


def is_trusted_name(module: str) -> bool:
    return module.partition(".")[0] in _TRUSTED


@functools.lru_cache(maxsize=4096)
def is_trusted(cls: type) -> bool:
    """Whether a class and all functions in it are of a trusted package."""
    functions = (v for v in vars(cls).values() if isinstance(v, FunctionType))
    return all(is_trusted_name(str(v.__module__)) for v in (cls, *functions))
