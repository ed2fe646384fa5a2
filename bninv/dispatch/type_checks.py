"""Code that asks `type(layer) is nn.Conv2d`: of a patched layer that cannot hold."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Collection, Iterator
from types import FunctionType
from typing import Any

from torch import nn

_COMPARES = (ast.Is, ast.IsNot, ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def asked_by_type(
    methods: Iterator[tuple[str, FunctionType]], changed: Collection[type]
) -> dict[type, str]:
    """The classes among `changed` that code compares with `type(...)`, or looks it up among, each
    with the line.
    """
    found: dict[type, str] = {}
    for _, method in methods:
        for expression, line in _comparisons(method.__code__) if _mentions_type(method) else ():
            for cls in _classes(expression, method):
                if cls in changed:
                    found.setdefault(cls, f"{method.__code__.co_filename}:{line}")
    return found


def _mentions_type(method: FunctionType) -> bool:
    return "type" in method.__code__.co_names or "__class__" in method.__code__.co_names


@functools.lru_cache(maxsize=4096)
def _comparisons(code: Any) -> list[tuple[ast.expr, int]]:
    """What a function's code compares with a type, with the lines; nothing without its source."""
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], _COMPARES):
            sides = [node.left, node.comparators[0]]
            if any(map(_is_type, sides)):
                found += [(side, node.lineno) for side in sides if not _is_type(side)]
        elif isinstance(node, ast.Subscript) and _is_type(node.slice):
            found.append((node.value, node.lineno))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asks = node.func.attr == "get" and any(map(_is_type, node.args[:1]))
            found += [(node.func.value, node.lineno)] * asks
    return [(expression, first + line - 1) for expression, line in found]


def _is_type(node: ast.expr) -> bool:
    """Whether this is `type(x)` or `x.__class__`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "type" and len(node.args) == 1
    return isinstance(node, ast.Attribute) and node.attr == "__class__"


def _classes(node: ast.expr, method: FunctionType) -> Iterator[type]:
    """The module classes that an expression names, alone or in a tuple, list or set."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        for element in node.elts:
            yield from _classes(element, method)
        return
    value = _value(node, method)
    for one in value if isinstance(value, (tuple, list, set, frozenset, dict)) else (value,):
        if isinstance(one, type) and issubclass(one, nn.Module):
            yield one


def _value(node: ast.expr, method: FunctionType) -> Any:
    """What a name, or an attribute of one, stands for; None if that cannot be told."""
    if isinstance(node, ast.Name):
        cells = zip(method.__code__.co_freevars, method.__closure__ or (), strict=True)
        for name, cell in cells:
            if name == node.id:
                return cell.cell_contents
        return method.__globals__.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, method)
        return None if owner is None else getattr(owner, node.attr, None)
    return None
