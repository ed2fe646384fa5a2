"""Chains in graphs of operators: `torch.compile(model, backend="bninv")`, and exported programs.

What a block's own trace cannot hold (code that nobody vouches for, its guards and side effects) is
Dynamo's business here. The graph that it gives calls bninv's operators one by one; the patterns of
`bninv.fusing.chains` find what one of them can do, and the operators run as they are: nothing is
generated, so the bits are those of the uncompiled model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from bninv import _torch
from bninv._arguments import GELU
from bninv.fusing.chains import (
    ACTIVATIONS,
    READS,
    Chain,
    Reader,
    arguments_of,
    changes,
    find_chains,
)

GraphT = TypeVar("GraphT", GraphModule, ExportedProgram)
_ops = torch.ops.bninv
_OF_ONE_NAME = [name for name in ACTIVATIONS if name != "gelu_tanh"]
_IN_PLACE: dict[Any, Any] = {
    getattr(_ops, f"{name}_").default: getattr(_ops, name).default for name in _OF_ONE_NAME
}
_IN_PLACE |= dict.fromkeys(
    (torch.ops.aten.add_.Tensor, operator.iadd, "add_"), torch.ops.aten.add.Tensor
)
_COPIES = (torch.ops.aten.copy_.default, "copy_")
_ROLES: dict[Any, str] = {
    getattr(_ops, name).default: name for name in ("conv2d", "linear", *_OF_ONE_NAME)
}


class OperatorReader(Reader):
    """Reads graphs whose nodes call operators, with what each returns in `meta`."""

    def role(self, node: Node) -> str | None:
        if node.op != "call_function":
            return None
        value = _value(node)
        if node.target is _ops.conv2d.default and (value is None or value.dim() != 4):
            return None
        if node.target is _ops.batch_norm.default:
            given = arguments_of(node)
            if given["residual"] is not None or given["activation"] != "none":
                return None
            return "batch_norm2d" if value is not None and value.dim() == 4 else "batch_norm"
        if node.target is _ops.gelu.default:
            return GELU.get(arguments_of(node)["approximate"])
        return _ROLES.get(node.target)

    def follows(self, chain: Chain, node: Node) -> bool:
        """Results keep their operand's layout; that of a sum depends on both operands'."""
        if self.role(node) is not None:
            return _same_elements(chain.last, node)
        return all(_alike(chain.last, other) for other in (node, *node.all_input_nodes))

    def changes_nothing(self, node: Node) -> bool:
        if node.op in ("placeholder", "get_attr"):
            return True
        if isinstance(node.target, _torch.OpOverload):
            return not node.target._schema.is_mutable
        if all(_value(operand) is None for operand in node.all_input_nodes):
            return node.op.startswith("call_")  # of numbers, such as sizes
        return node.op in ("call_function", "call_method") and changes(node) == READS


def _value(node: Any) -> Tensor | None:
    """What stands for a node's result, if that is a tensor."""
    if not isinstance(node, Node):
        return None
    value = node.meta.get("example_value", node.meta.get("val"))  # Dynamo's, torch.export's
    return value if isinstance(value, Tensor) else None


def _same_elements(one: Any, other: Any) -> bool:
    """Whether two nodes' results are of one shape, dtype and device, for every dynamic shape."""
    a, b = _value(one), _value(other)
    return (
        (a is not None and b is not None)
        and (a.dtype, a.device, a.dim()) == (b.dtype, b.device, b.dim())
        and (a.layout, b.layout) == (torch.strided, torch.strided)
        and _always_equal(a.shape, b.shape)
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether they are laid out in the same way besides."""
    a, b = _value(one), _value(other)
    return _same_elements(one, other) and _always_equal(a.stride(), b.stride())  # type: ignore[union-attr]


def _always_equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # takes a second

    return all(statically_known_true(m == n) for m, n in zip(a, b, strict=True))


def _out_of_place(graph: Graph) -> None:
    """What changes a result that nobody has seen yet makes a result of its own instead."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        value, other = (*node.args[:2], None, None)[:2]
        if not isinstance(value, Node) or not _is_fresh(value) or node.kwargs:
            continue
        before = [user for user in value.users if order.get(user, -1) < order[node]]
        new = None
        if node.target in _COPIES and before == [other] and list(other.users) == [node]:
            new = other if _alike(value, other) else None  # an activation under autograd
        elif node.target in _IN_PLACE and not before:
            target = _IN_PLACE[node.target]
            if target is not torch.ops.aten.add.Tensor or _same_elements(value, other):
                with graph.inserting_before(node):
                    new = graph.call_function(target, node.args)
                new.meta = dict(value.meta)
        if new is not None:
            node.replace_all_uses_with(new)  # an operator of PyTorch's returns what it has changed
            _use_instead(value, new, node)
            graph.erase_node(node)


def _use_instead(value: Node, new: Node, but: Node) -> None:
    value.replace_all_uses_with(new, delete_user_cb=lambda user: user not in (new, but))


def _is_fresh(value: Node) -> bool:
    """Whether a result is known to be in memory of its own."""
    target = value.target
    if not isinstance(target, _torch.OpOverload) or target._schema.is_mutable:
        return False
    return target.namespace == "bninv" or target is torch.ops.aten.add.Tensor


def fuse_graph(graph: Graph) -> int:
    """Replace the chains of a graph by one operator each, in place; returns how many there were."""
    _out_of_place(graph)
    chains = find_chains(graph, OperatorReader())
    for chain in chains:
        _replace(graph, chain)
    return len(chains)


def _replace(graph: Graph, chain: Chain) -> None:
    head = arguments_of(chain.head)
    # A product's own, which stands behind what follows it.
    last = {"precision": head.pop("precision")} if "precision" in head else {}
    # Asked anew: an operand may be the result of a chain that was replaced before.
    operands = [] if chain.add is None else chain.add.all_input_nodes
    residual = next((node for node in operands if node not in chain.nodes), None)
    after: dict[str, Any] = {"residual": residual, "activation": chain.activation}
    if chain.activation_node is not None:
        slope = arguments_of(chain.activation_node).get("negative_slope", 0.01)
        after["negative_slope"] = slope
    if chain.head.target is _ops.conv2d.default:
        norm = dict.fromkeys(("running_mean", "running_var", "weight", "bias"))
        norm = {**norm, "eps": 1e-5} if chain.norm is None else arguments_of(chain.norm)
        target = _ops.conv2d_fused.default
        args = [*head.values(), *(norm[k] for k in ("running_mean", "running_var"))]
        args += [norm["weight"], norm["bias"], norm["eps"]]
    elif chain.head.target is _ops.linear.default:
        target, args = _ops.linear_fused.default, list(head.values())
    else:
        target = _ops.batch_norm.default
        args = [v for k, v in head.items() if k not in ("residual", "activation", "negative_slope")]
    with graph.inserting_after(chain.last):
        new = graph.call_function(target, (*args, *after.values()), last)
    new.meta = dict(chain.last.meta)
    chain.last.replace_all_uses_with(new)
    for node in reversed(chain.nodes):
        graph.erase_node(node)


def fuse(program: GraphT) -> GraphT:
    """Run chains of calls in an exported program as one operator each; in place, returns it.

    The bits are the same, and dynamic shapes stay as they were exported.

    Args:
        program: of `torch.export.export(bninv.patch(model), ...)`, or a GraphModule with the values
            that torch.export or Dynamo notes in it.

    Raises:
        TypeError: `program` is neither an ExportedProgram nor a torch.fx.GraphModule.
    """
    if not isinstance(program, (ExportedProgram, GraphModule)):
        kind = type(program).__name__
        raise TypeError(f"`program` is {kind}; it may be a torch.export.ExportedProgram")
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    fuse_graph(module.graph)
    module.graph.lint()
    module.recompile()
    return program


def backend(module: GraphModule, inputs: list[Any], **options: Any) -> Callable[..., Any]:
    """`torch.compile(model, backend="bninv")`: chains run as one operator, all others as they are.

    Raises:
        TypeError: options were given; there are none.
    """
    if options:
        raise TypeError(f"`options` has {', '.join(options)}; backend 'bninv' has none")
    forward: Callable[..., Any] = fuse(module).forward
    return forward
