"""Finds chains: a product or a normalization, and calls after it that its operator can do too."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from bninv.dispatch import table
from bninv.fusing.proxies import IN_PLACE_OPERATORS
from bninv.fusing.recording import Recording
from bninv.nn import activation, batch_norm, conv, linear
from bninv.nn.base import Patched

_CONVOLUTIONS = (conv.Conv2d, conv.Conv2dSame)
_HEADS = (*_CONVOLUTIONS, linear.Linear)
_NORMS = (batch_norm.BatchNorm, batch_norm.FrozenBatchNorm)
# Names of the operators' `activation`, by the module's kind and by the function.
_ACTIVATION_KINDS: dict[type[Patched], str] = {
    activation.ReLU: "relu",
    activation.ReLU6: "relu6",
    activation.SiLU: "silu",
    activation.Hardswish: "hardswish",
    activation.LeakyReLU: "leaky_relu",
}
_ACTIVATION_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), "relu"),
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}
_ADDS: dict[Any, bool] = {  # whether the first operand is changed
    **dict.fromkeys((operator.add, torch.add, Tensor.add), False),
    **dict.fromkeys((operator.iadd, Tensor.add_), True),
}


@dataclass
class Chain:
    """Calls that become one, in order: `nodes[0]` is its head, `nodes[-1]` has its result."""

    nodes: list[Node]
    norm: Node | None = None  # one after a head that is a product
    residual: Node | None = None
    activation: str = "none"
    activation_node: Node | None = None

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


def find_chains(recording: Recording) -> list[Chain]:
    """Chains of two calls and more; no call is in two of them."""
    graph, taken, found = recording.graph, set[Node](), []
    order = {node: i for i, node in enumerate(graph.nodes)}
    for heads in (_HEADS, _NORMS):
        for node in graph.nodes:
            if node in taken or not isinstance(_kind(recording, node), heads):
                continue
            chain = _chain_from(recording, node, taken)
            _cut(recording, chain, order)
            if len(chain.nodes) > 1:
                found.append(chain)
                taken.update(chain.nodes)
    return found


def may_be_in_chain(module: nn.Module) -> bool:
    """Whether a layer is of a kind that chains begin with."""
    return isinstance(module, (*_HEADS, *_NORMS))


def target_of(node: Node) -> Any:
    """A called function; the tensor's method for a call of one."""
    return getattr(Tensor, str(node.target), None) if node.op == "call_method" else node.target


def _kind(recording: Recording, node: Node) -> Any:
    """The module that a node calls, if nothing but its class decides what it does; or None."""
    if node.op != "call_module" or node.meta["path"] in recording.hooked:
        return None
    if len(node.args) != 1 or node.kwargs:
        return None
    return recording.members[node.meta["path"]].module


def _chain_from(recording: Recording, head: Node, taken: set[Node]) -> Chain:
    chain = Chain([head])
    is_convolution = isinstance(_kind(recording, head), _CONVOLUTIONS)
    while (after := _only_user(chain.last)) is not None and after not in taken:
        module = _kind(recording, after)
        fresh = chain.residual is None and chain.activation_node is None
        if is_convolution and fresh and chain.norm is None and _is_norm2d(module):
            chain.norm = after
        elif fresh and (residual := _residual(after, chain.last)) is not None:
            chain.residual = residual
        elif chain.activation_node is None and (name := _activation(module, after)) is not None:
            chain.activation, chain.activation_node = name, after
        else:
            break
        chain.nodes.append(after)
    return chain


def _is_norm2d(module: Any) -> bool:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, batch_norm.FrozenBatchNorm)
    return isinstance(module, _NORMS) and isinstance(module, kinds)


def _only_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op != "output" else None


def _residual(add: Node, value: Node) -> Node | None:
    """The other operand if `add` is an addition of `value` and a tensor."""
    changes_first = _ADDS.get(target_of(add)) if add.op.startswith("call_") else None
    if changes_first is None or add.kwargs or len(add.args) != 2:
        return None
    a, b = add.args
    if not isinstance(a, Node) or not isinstance(b, Node) or a is b:
        return None
    if a is value:
        return b
    return None if changes_first else a


def _activation(module: Any, node: Node) -> str | None:
    if module is not None:
        kinds = (name for kind, name in _ACTIVATION_KINDS.items() if isinstance(module, kind))
        return next(kinds, None)
    if node.op not in ("call_function", "call_method"):
        return None
    extra = (*node.args[1:], *node.kwargs.values())
    if any(not isinstance(value, bool) for value in extra):  # inplace
        return None
    return _ACTIVATION_FUNCTIONS.get(target_of(node))


# ---- What lies between ---------------------------------------------------------------------------


def _cut(recording: Recording, chain: Chain, order: dict[Node, int]) -> None:
    """Shorten a chain to where nothing between its calls may change a tensor.

    It runs in its last call's place: what its head reads has to be then what it was.
    """
    between = list(recording.graph.nodes)[order[chain.head] : order[chain.last]]
    members = set(chain.nodes)
    for node in between:
        if node in members:
            continue
        if _changes_nothing(recording, node):
            if node.op == "call_module":
                recording.whole(node.meta["path"])  # so that no hook of it changes anything
            continue
        while order[chain.last] > order[node]:
            dropped = chain.nodes.pop()
            if dropped is chain.activation_node:
                chain.activation, chain.activation_node = "none", None
            elif dropped is chain.norm:
                chain.norm = None
            else:
                chain.residual = None
        return


def _changes_nothing(recording: Recording, node: Node) -> bool:
    """Whether a call changes no tensor that others see."""
    if node.op in ("placeholder", "get_attr"):
        return True
    if node.op == "call_module":
        module = _kind(recording, node)
        if not (isinstance(module, Patched) and module.is_kind):
            return False
        return not getattr(module, "inplace", False) or _is_fresh(recording, node.args[0])
    target = target_of(node)
    if target in (getattr, operator.getitem):
        return True
    name = getattr(target, "__name__", "_")
    in_place = name.endswith("_") and not name.endswith("__")
    in_place = in_place or name.startswith("__i") or target in _CHANGE_FIRST
    flags = [value is True for value in (*node.args, *node.kwargs.values())]
    if in_place or (any(flags) and (target in _ACTIVATION_FUNCTIONS or "inplace" in node.kwargs)):
        return bool(node.args) and _is_fresh(recording, node.args[0])
    if any(flags):  # perhaps in place, perhaps training
        return False
    method = getattr(Tensor, f"__{name}__", None) if target in _OPERATORS else target
    return "out" not in node.kwargs and table.row_of(method) is not None


_OPERATORS = frozenset(
    getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "neg", "eq", "lt", "gt")
)
_CHANGE_FIRST = frozenset(getattr(operator, name) for name in IN_PLACE_OPERATORS)


def _is_fresh(recording: Recording, value: Any) -> bool:
    """Whether a value is a layer's own result that one call alone uses."""
    if not isinstance(value, Node) or len(value.users) != 1:
        return False
    return isinstance(_kind(recording, value), (*_HEADS, *_NORMS))
