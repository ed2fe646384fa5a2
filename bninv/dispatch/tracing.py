"""torch.fx: calls in a traced graph escape every mode, so they are put right in the graph itself.

Tracing hands a module proxies instead of tensors and records what its code does with them. After
the code of a protected module has been recorded, each new node is looked up in the table: exact
calls stay; all others become `call_protected`, which looks again when the graph runs, and warns of
what has no row.
"""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import Graph, Node, Tracer

from bninv import _torch
from bninv.building import extension
from bninv.dispatch import table
from bninv.dispatch.catch import Invariant
from bninv.dispatch.exact import names
from bninv.dispatch.policy import NotInvariantError, Policy

_BUILTINS = {
    operator.add: "add",
    operator.iadd: "add_",
    operator.sub: "sub",
    operator.isub: "sub_",
    operator.mul: "mul",
    operator.imul: "mul_",
    operator.truediv: "div",
    operator.itruediv: "div_",
    operator.neg: "neg",
    operator.eq: "eq",
    operator.ne: "ne",
    operator.lt: "lt",
    operator.le: "le",
    operator.gt: "gt",
    operator.ge: "ge",
}
# Python's own, on sizes and results; indexing a tensor copies or views.
_PASSES = {getattr, operator.getitem, operator.floordiv, operator.mod, len, int, float, bool}


def protect_traced(tracer: Tracer, record: Callable[[], Any]) -> Any:
    """Record some code's nodes with `record` and put the new ones right.

    Raises:
        NotInvariantError: a call has no row.
    """
    graph = tracer.graph
    last = next(iter(reversed(graph.nodes)), None)
    result = record()
    node = last.next if last is not None else next(iter(graph.nodes), graph._root)
    while node is not graph._root:
        _protect(node)
        node = node.next
    return result


def unprotected_nodes(graph: Graph) -> Iterator[str]:
    """The functional calls in a graph that was traced without protection."""
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and not _is_exact(node):
            yield str(node.target)


def call_protected(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a function or a tensor's method under `bninv.invariant()`.

    What a traced graph of a patched model holds in place of `x.mean((2, 3))` and its like. Warns of
    each operator without a row once in a process.

    Args:
        name: 'Tensor:mean', or an importable 'torch.nn.functional:softmax'.
    """
    extension.load()
    module, _, attribute = name.rpartition(":")
    owner = torch.Tensor if module == "Tensor" else importlib.import_module(module)
    with _traced:
        return getattr(owner, attribute)(*args, **kwargs)


_traced = Invariant(Policy())


def _protect(node: Node) -> None:
    if node.op not in ("call_function", "call_method") or _is_exact(node):
        return
    name = _importable_name(node)
    if name is None:
        raise NotInvariantError(
            f"{node.target} has no name to be called by, and a graph traced by torch.fx would lose "
            "the protection of what it computes: make it a function of a module"
        )
    node.op, node.target, node.args = "call_function", call_protected, (name, *node.args)


def _is_exact(node: Node) -> bool:
    target: Any = node.target
    if target in _PASSES or target is call_protected:
        return True
    method = target if isinstance(target, str) else _BUILTINS.get(target)
    row = table.row_of(getattr(torch.Tensor, method, None) if method else target)
    if row is None or row.passes:
        return row is not None
    # Whether a number is exact beside a tensor depends on the dtype, which is not known yet.
    has_number = any(isinstance(a, (int, float)) for a in node.args[:2])
    if row.adapter is not None or (has_number and row.name in _WITH_NUMBERS):
        return False
    return row.is_exact(node.args, node.kwargs)


_WITH_NUMBERS = names("add add_ sub sub_ rsub mul mul_ div div_ leaky_relu")


def _importable_name(node: Node) -> str | None:
    target: Any = node.target
    if isinstance(target, str):
        return f"Tensor:{target}"
    own = sys.modules.get(getattr(target, "__module__", None) or "")
    for module in (torch, torch.nn.functional, _torch.NN, operator, own):
        for attribute in (getattr(target, "__name__", ""), *_DISPATCHED):
            if module is not None and getattr(module, attribute, None) is target:
                return f"{module.__name__}:{attribute}"
    return None


# Functions of torch.nn.functional that all have the name "fn".
_DISPATCHED = tuple(
    f"{kind}max_pool{dims}d" for kind in ("", "adaptive_", "fractional_") for dims in (1, 2, 3)
)
