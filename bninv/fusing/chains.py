"""Finds chains: a product or a normalization, and calls after it that its operator can do too.

The patterns are the same in both kinds of graphs, a block's (`program`) and an operator graph
(`compiled`). What a node is in them is for a Reader to say.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from bninv import _arguments, _torch
from bninv.dispatch import table

HEADS = ("conv2d", "linear")
NORMS = ("batch_norm2d", "batch_norm")
ACTIVATIONS = tuple(name for name in _arguments.ACTIVATIONS if name != "none")
# Whether the first operand is changed.
_ADDS: dict[Any, bool] = {
    **dict.fromkeys((operator.add, torch.add, Tensor.add, torch.ops.aten.add.Tensor), False),
    **dict.fromkeys((operator.iadd, Tensor.add_, torch.ops.aten.add_.Tensor), True),
}


class Reader:
    """What the nodes of one kind of graph are."""

    def role(self, node: Node) -> str | None:
        """One of HEADS, NORMS or ACTIVATIONS for a call that is nothing else, of `node.args[0]`."""
        raise NotImplementedError

    def follows(self, chain: Chain, node: Node) -> bool:
        """Whether a call fits behind a chain, as far as that is known before it runs."""
        return True

    def changes_nothing(self, node: Node) -> bool:
        """Whether a call changes no tensor that others see."""
        raise NotImplementedError


@dataclass
class Chain:
    """Calls that become one, in order: `nodes[0]` is its head, `nodes[-1]` has its result."""

    nodes: list[Node]
    norm: Node | None = None  # one after a head that is a product
    add: Node | None = None
    residual: Node | None = None
    activation: str = "none"
    activation_node: Node | None = None

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


def find_chains(graph: Graph, reader: Reader) -> list[Chain]:
    """Chains of two calls and more; no call is in two of them."""
    taken, found = set[Node](), []
    nodes = list(graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}
    for heads in (HEADS, NORMS):
        for node in nodes:
            if node in taken or reader.role(node) not in heads:
                continue
            chain = _chain_from(reader, node, taken)
            _cut(reader, chain, nodes[order[chain.head] : order[chain.last]], order)
            if len(chain.nodes) > 1:
                found.append(chain)
                taken.update(chain.nodes)
    return found


def _chain_from(reader: Reader, head: Node, taken: set[Node]) -> Chain:
    chain = Chain([head])
    is_convolution = reader.role(head) == "conv2d"
    while (after := _only_user(chain.last)) is not None and after not in taken:
        role = reader.role(after)
        if not reader.follows(chain, after):
            break
        fresh = chain.residual is None and chain.activation_node is None
        if is_convolution and fresh and chain.norm is None and role == "batch_norm2d":
            chain.norm = after
        elif fresh and (residual := _residual(after, chain.last)) is not None:
            chain.residual, chain.add = residual, after
        elif chain.activation_node is None and role in ACTIVATIONS:
            chain.activation, chain.activation_node = str(role), after
        else:
            break
        chain.nodes.append(after)
    return chain


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


def _cut(reader: Reader, chain: Chain, between: list[Node], order: dict[Node, int]) -> None:
    """Shorten a chain to where nothing between its calls may change a tensor.

    It runs in its last call's place: what its head reads has to be then what it was.
    """
    members = set(chain.nodes)
    for node in between:
        if node in members or reader.changes_nothing(node):
            continue
        while order[chain.last] > order[node]:
            dropped = chain.nodes.pop()
            if dropped is chain.activation_node:
                chain.activation, chain.activation_node = "none", None
            elif dropped is chain.norm:
                chain.norm = None
            else:
                chain.residual = chain.add = None
        return


# ---- What a call changes -------------------------------------------------------------------------


def target_of(node: Node) -> Any:
    """A called function; the tensor's method for a call of one, and for an operator of Python's."""
    if node.op == "call_method":
        return getattr(Tensor, str(node.target), None)
    return node.target


def row_of(target: Any) -> table.Row | None:
    """The row that a call has when it is caught."""
    name = getattr(target, "__name__", "")
    if getattr(operator, name, _ADDS) is target:
        target = getattr(Tensor, f"__{name.strip('_')}__", None)
    return table.row_of(target)


READS, FIRST, ANY = range(3)  # what a call changes: nothing, its first argument, who knows


def changes(node: Node) -> int:
    """What a call of a function changes, by its schema."""
    target = target_of(node)
    if target in (getattr, operator.getitem):
        return READS
    row = row_of(target)
    if row is None or "out" in node.kwargs:
        return ANY
    flagged = any(value is True for value in (*node.args, *node.kwargs.values()))
    owners = (torch, Tensor, _torch.NN)
    if flagged and all(getattr(owner, row.name, None) is not target for owner in owners):
        # A function of Python's, whose flag may be `inplace` or `training`.
        return FIRST if node.kwargs.get("inplace") is True else ANY
    return READS if row.passes else _written(row.name)


@functools.cache
def _written(name: str) -> int:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return ANY
    found = READS
    for overload in packet.overloads():
        for i, argument in enumerate(getattr(packet, overload)._schema.arguments):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and not argument.is_out:
                found = max(found, FIRST if i == 0 else ANY)
    return found


def arguments_of(node: Node) -> dict[str, Any]:
    """The arguments of an operator's call by their names, in the schema's order."""
    operator: Any = node.target
    given = dict(zip((a.name for a in operator._schema.arguments), node.args, strict=False))
    given |= node.kwargs
    return {a.name: given.get(a.name, a.default_value) for a in operator._schema.arguments}
