"""A block's program: its calls in their order, each chain as one.

It is a graph module whose calls are steps. A step is handed the protection that the program has
stepped out of: what is bninv's own runs without it, what a row of the table decides does as the row
says, and everything else is called with the protection back in its place, and is caught as ever.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from bninv._call_site import TRACED
from bninv._programs import UNFIT
from bninv._protection import Protection, step_in, step_out
from bninv.dispatch import covered
from bninv.dispatch.unfit import UnfitError
from bninv.fusing.chains import FIRST, READS, Chain, Reader, changes, find_chains, row_of, target_of
from bninv.fusing.guard import Guard
from bninv.fusing.proxies import BlockTracer, exactly
from bninv.fusing.structure import Structure
from bninv.fusing.tracing import trace
from bninv.nn import activation, batch_norm, conv, linear
from bninv.nn.base import Patched

Step = Callable[..., Any]  # of the protection, and of what the call takes

_NORM2D = (nn.BatchNorm2d, nn.SyncBatchNorm, batch_norm.FrozenBatchNorm)
# By the module's kind and by the function: the role of a call.
_KINDS: dict[type[Patched], str] = {
    conv.Conv2d: "conv2d",
    conv.Conv2dSame: "conv2d",
    linear.Linear: "linear",
    activation.ReLU: "relu",
    activation.ReLU6: "relu6",
    activation.SiLU: "silu",
    activation.Hardswish: "hardswish",
    activation.LeakyReLU: "leaky_relu",
}
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), "relu"),
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}


class FusedChain(NamedTuple):
    head: nn.Module  # the layer that it begins with
    calls: int


def may_begin_chain(module: nn.Module) -> bool:
    """Whether a layer is of a kind that chains begin with."""
    heads = (conv.Conv2d, conv.Conv2dSame, linear.Linear)
    return isinstance(module, (*heads, batch_norm.BatchNorm, batch_norm.FrozenBatchNorm))


class BlockReader(Reader):
    """Reads graphs whose nodes call modules, PyTorch's functions and tensors' methods."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def role(self, node: Node) -> str | None:
        module = node.meta.get("kind")
        if isinstance(module, (batch_norm.BatchNorm, batch_norm.FrozenBatchNorm)):
            return "batch_norm2d" if isinstance(module, _NORM2D) else "batch_norm"
        if module is not None:
            return next((role for kind, role in _KINDS.items() if isinstance(module, kind)), None)
        if node.op not in ("call_function", "call_method"):
            return None
        extra = (*node.args[1:], *node.kwargs.values())
        if any(not isinstance(value, bool) for value in extra):  # inplace
            return None
        return _FUNCTIONS.get(target_of(node))

    def changes_nothing(self, node: Node) -> bool:
        if node.op in ("placeholder", "get_attr"):
            return True
        module = node.meta.get("kind")
        if module is not None:
            if "inplace" in vars(module):
                self.guard.values[module, "inplace"] = module.inplace
            return not getattr(module, "inplace", False) or self._is_fresh(node.args[0])
        if node.op == "call_module":
            return False
        changed = changes(node)
        return changed == READS or (changed == FIRST and self._is_fresh(node.args[0]))

    def _is_fresh(self, value: Any) -> bool:
        """Whether a value is a layer's own result that one call alone uses."""
        if not isinstance(value, Node) or len(value.users) != 1:
            return False
        return self.role(value) in ("conv2d", "linear", "batch_norm", "batch_norm2d")


class Program:
    """What a block runs in place of its own code, as long as the guard holds."""

    def __init__(self, tracer: BlockTracer, chains: list[Chain]) -> None:
        self.guard = tracer.guard
        self.guard.close()
        self.caught = False  # whether it has calls that the protection has to see
        self._module = GraphModule(nn.Module(), self._graph(tracer.graph, chains))
        lines = [node.meta.get("line") for node in self._module.graph.nodes]
        self._module.meta[TRACED] = lines
        self._run: Any = self._module.forward

    def run(self, tensors: tuple[Any, ...]) -> Any:
        """The block's result, or UNFIT."""
        protection = step_out()
        try:
            if (protection is None and self.caught) or not self.guard.holds():
                return UNFIT
            return self._run(protection, *tensors)
        finally:
            step_in(protection)

    # ---- Making it -------------------------------------------------------------------------------

    def _graph(self, traced: Graph, chains: list[Chain]) -> Graph:
        chain_of = {node: chain for chain in chains for node in chain.nodes}
        graph = Graph()
        protection = graph.placeholder("protection")
        made: dict[Any, Node] = {}
        for node in traced.nodes:
            chain = chain_of.get(node)
            if chain is not None and node is not chain.last:
                continue
            inline = node.op == "call_method" or node.target in (getattr, operator.getitem)
            if node.op in ("placeholder", "output") or (inline and _is_plain(node)):
                new = graph.node_copy(node, made.__getitem__)
            elif chain is None:
                step, protected = self._step(node)
                args = torch.fx.node.map_arg(node.args, made.__getitem__)
                kwargs = torch.fx.node.map_arg(node.kwargs, made.__getitem__)
                new = graph.call_function(step, (protection,) * protected + args, kwargs)
            else:
                values = [made[v] for v in (chain.head.args[0], chain.residual) if v is not None]
                new = graph.call_function(self._fused(chain), (protection, *values))
                node = chain.add or node  # what may be warned of
            made[node if chain is None else chain.last] = new
            new.meta = {"line": node.meta.get("line")}
        return graph

    def _step(self, node: Node) -> tuple[Callable[..., Any], bool]:
        """What to call, and whether it is to be handed the protection."""
        module = node.meta.get("kind")
        if module is not None:
            part: str = node.meta["part"]
            return getattr(module, part), False
        if node.op == "get_attr":
            return _attribute(node.meta["module"], str(node.target)), False
        if node.op == "call_module":
            return _inside(node.meta["module"]), True
        function: Any = node.target
        if node.op == "call_method":
            function = _method(function)
        if _is_plain(node):
            return _function(function), False
        self.caught = True
        return _by_row(function, target_of(node)), True

    def _fused(self, chain: Chain) -> Step:
        """A chain as one step, of its input and its residual."""
        place = {chain.head.args[0]: 0, chain.residual: 1}
        steps = []
        for node in chain.nodes:
            # Of its arguments: which is the chain's input, its residual, or the value so far.
            args = [place.get(a, -1) if isinstance(a, Node) else _Constant(a) for a in node.args]
            args = [0] if node is chain.head else args
            steps.append((*self._step(node), args, dict(node.kwargs)))
        norm = None if chain.norm is None else chain.norm.meta["kind"]
        act = None if chain.activation_node is None else chain.activation_node.meta.get("kind")
        return _chain(chain.head.meta["kind"].fused_forward, norm, chain.activation, act, steps)


class _Constant(NamedTuple):
    value: Any


def _is_plain(node: Node) -> bool:
    """Whether a call never has to be caught, whatever it is handed: it asks, or moves elements."""
    if node.target in (getattr, exactly):
        return True
    row = row_of(target_of(node)) if node.op in ("call_function", "call_method") else None
    if row is None or row.passes:
        return row is not None
    conditional = row.group is None or row.group.condition is not None
    return not (conditional or row.adapter or row.repair or "out" in node.kwargs)


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function under a name that a graph module's code can call; some of torch's have none."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def _attribute(module: nn.Module, name: str) -> Callable[[], Any]:
    def attribute() -> Any:
        return getattr(module, name)

    return attribute


def _method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    return method


def _inside(function: Callable[..., Any]) -> Step:
    def inside(protection: Protection | None, *args: Any, **kwargs: Any) -> Any:
        step_in(protection)
        try:
            return function(*args, **kwargs)
        finally:
            step_out()

    return inside


def _by_row(function: Callable[..., Any], target: Any) -> Step:
    """What `Catch` does with a call whose row decides it, without having to catch it."""
    inside, row = _inside(function), row_of(target)
    if row is None:
        return inside
    name, adapter, is_exact = row.name, row.adapter, row.is_exact
    takes_list = name in ("cat", "stack")

    def by_row(protection: Protection | None, *args: Any, **kwargs: Any) -> Any:
        if args and (isinstance(args[0], Tensor) or takes_list):
            if adapter is not None:
                try:
                    return covered.call(name, adapter, args, kwargs)
                except UnfitError:
                    pass
            if is_exact(args, kwargs):
                return function(*args, **kwargs)
        return inside(protection, *args, **kwargs)

    return by_row


def _chain(fused: Any, norm: Any, activation: str, act: Any, steps: list[Any]) -> Step:
    has_slope = activation == "leaky_relu"

    def chain(protection: Protection | None, x: Any, residual: Any = None) -> Any:
        slope = act.negative_slope if has_slope else 0.0
        y = fused(x, norm, residual, activation, slope)
        if y is None:  # the separate calls, where they do not fit
            y = x
            for step, protected, args, kwargs in steps:
                values = (x, residual, y)
                parts = (a.value if type(a) is _Constant else values[a] for a in args)
                y = step(*(protection,) * protected, *parts, **kwargs)
        return y

    return chain


def make(
    block: nn.Module, structure: Structure, trust: tuple[str, ...]
) -> tuple[Program | None, list[FusedChain], list[str]]:
    """A block's program, None where it has no chain; its chains; and its layers that are hooked.

    Raises:
        Unfusable: the block cannot be traced.
    """
    tracer = trace(block, structure, trust)
    chains = find_chains(tracer.graph, BlockReader(tracer.guard))
    if not chains and not tracer.hooked:
        return None, [], []
    heads = (chain.head.meta["kind"] for chain in chains)
    counts = (len(chain.nodes) for chain in chains)
    return Program(tracer, chains), list(map(FusedChain, heads, counts)), tracer.hooked
