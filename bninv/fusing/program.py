"""A block's program: its calls in their order, each chain as one.

It is a graph module whose calls are steps. A step is handed the protection that the program has
stepped out of: what is bninv's own runs without it, what has a row in the table does as the row
says, and everything else is called with the protection back in its place, and is caught as ever.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from bninv._arguments import GELU
from bninv._protection import step_in, step_out
from bninv.dispatch.blocks import UNFIT
from bninv.dispatch.call_site import TRACED
from bninv.fusing.chains import (
    ACTIVATIONS,
    FIRST,
    READS,
    Chain,
    Reader,
    changes,
    find_chains,
    row_of,
    target_of,
)
from bninv.fusing.guard import Guard
from bninv.fusing.proxies import Unfusable
from bninv.fusing.structure import Structure
from bninv.fusing.tracing import BlockTracer, trace
from bninv.modules.base import Patched
from bninv.modules.fused import After
from bninv.operators import batch_norm, conv2d_modules, linear, unary

Step = Callable[..., Any]  # of the protection, and of what the call takes

_NORM2D = (nn.BatchNorm2d, nn.SyncBatchNorm, batch_norm.FrozenBatchNorm)
_NORMS = (batch_norm.BatchNorm, batch_norm.FrozenBatchNorm)
# By the module's kind and by the function: the role of a call.
_KINDS: dict[type[Patched], str] = {
    conv2d_modules.Conv2d: "conv2d",
    conv2d_modules.Conv2dSame: "conv2d",
    linear.Linear: "linear",
    **{unary.KIND_OF[name]: name for name in ACTIVATIONS},
}
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), "relu"),
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    F.gelu: "gelu",
    **dict.fromkeys((F.sigmoid, torch.sigmoid, torch.sigmoid_), "sigmoid"),
    **dict.fromkeys((Tensor.sigmoid, Tensor.sigmoid_), "sigmoid"),
    **dict.fromkeys((F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), "tanh"),
}


class FusedChain(NamedTuple):
    head: nn.Module  # the layer that it begins with
    calls: int


def may_begin_chain(module: nn.Module) -> bool:
    """Whether a layer is of a kind that chains begin with."""
    products = (conv2d_modules.Conv2d, conv2d_modules.Conv2dSame, linear.Linear)
    return isinstance(module, (*products, *_NORMS))


class BlockReader(Reader):
    """Reads graphs whose nodes call modules, PyTorch's functions and tensors' methods."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def role(self, node: Node) -> str | None:
        module = node.meta.get("kind")
        if isinstance(module, _NORMS):
            return "batch_norm2d" if isinstance(module, _NORM2D) else "batch_norm"
        if module is not None:
            role = next((role for kind, role in _KINDS.items() if isinstance(module, kind)), None)
            if role == "gelu" and "approximate" in vars(module):
                self.guard.values[module, "approximate"] = module.approximate
                role = GELU.get(str(module.approximate))
            return role
        if node.op not in ("call_function", "call_method"):
            return None
        if node.target is F.gelu and len(node.args) == 1 and set(node.kwargs) == {"approximate"}:
            return GELU.get(str(node.kwargs["approximate"]))
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

    def run(self, tensors: Sequence[Any]) -> Any:
        """The block's result, or UNFIT."""
        protection = step_out()
        try:
            if (protection is None and self.caught) or not self.guard.holds():
                return UNFIT
            return self._run(protection, *tensors)
        finally:
            step_in(protection)

    def _graph(self, traced: Graph, chains: list[Chain]) -> Graph:
        chain_of = {node: chain for chain in chains for node in chain.nodes}
        graph = Graph()
        protection = graph.placeholder("protection")
        made: dict[Any, Node] = {}
        for node in traced.nodes:
            chain = chain_of.get(node)
            if chain is not None and node is not chain.last:
                continue
            if node.op in ("placeholder", "output") or (chain is None and _is_inline(node)):
                new = graph.node_copy(node, made.__getitem__)
            elif chain is None:
                args = map_arg((protection, *node.args), lambda n: made.get(n, n))
                kwargs = map_arg(node.kwargs, made.__getitem__)
                new = graph.call_function(self._step(node), args, kwargs)
            else:
                values = [made[v] for v in (chain.head.args[0], chain.residual) if v is not None]
                new = graph.call_function(self._fused(chain), (protection, *values))
            made[node] = new
            warned_of = node if chain is None else chain.add or node
            new.meta = {"line": warned_of.meta.get("line")}
        return graph

    def _step(self, node: Node) -> Step:
        module = node.meta.get("module")
        if "kind" in node.meta:
            return _own(getattr(module, node.meta["part"]))
        if node.op == "get_attr":
            return _own(lambda: getattr(module, str(node.target)))
        if module is not None:
            return _caught(module)
        function: Any = _method(str(node.target)) if node.op == "call_method" else node.target
        row = row_of(target_of(node))
        if row is not None and row.passes:
            return _own(function)
        self.caught = True
        return _caught(function) if row is None else _by_row(row, function)

    def _fused(self, chain: Chain) -> Step:
        """A chain as one step, of its input and its residual."""
        place = {chain.head.args[0]: 0, chain.residual: 1}
        steps = []
        for node in chain.nodes:
            # Of its arguments: which is the chain's input, its residual, or the value so far.
            args = [place.get(a, -1) if isinstance(a, Node) else _Constant(a) for a in node.args]
            args = [0] if node is chain.head else args
            steps.append((self._step(node), args, dict(node.kwargs)))
        norm = None if chain.norm is None else chain.norm.meta["kind"]
        act = None if chain.activation_node is None else chain.activation_node.meta.get("kind")
        return _chain(chain.head.meta["kind"].fused_forward, norm, chain.activation, act, steps)


class _Constant(NamedTuple):
    value: Any


def _is_inline(node: Node) -> bool:
    """Whether a call stands in the program as it is: it asks, or moves elements."""
    if node.target in (getattr, operator.getitem):
        return True
    row = row_of(target_of(node)) if node.op == "call_method" else None
    return row is not None and row.passes


def _method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    return method


def _own(function: Callable[..., Any]) -> Step:
    def own(protection: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return own


def _caught(function: Callable[..., Any]) -> Step:
    def caught(protection: Any, *args: Any, **kwargs: Any) -> Any:
        step_in(protection)
        try:
            return function(*args, **kwargs)
        finally:
            step_out()

    return caught


def _by_row(row: Any, function: Callable[..., Any]) -> Step:
    caught = _caught(function)

    def by_row(protection: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], (Tensor, list, tuple)):
            return protection.run(row, function, args, kwargs)
        return caught(protection, *args, **kwargs)

    return by_row


def _chain(fused: Any, norm: Any, activation: Any, act: Any, steps: list[Any]) -> Step:
    has_slope = activation == "leaky_relu"
    alone = After(norm, None, activation, 0.0)

    def chain(protection: Any, x: Any, residual: Any = None) -> Any:
        after = alone
        if has_slope or residual is not None:
            after = After(norm, residual, activation, act.negative_slope if has_slope else 0.0)
        y = fused(x, after)
        if y is None:  # the separate calls, where they do not fit
            y = x
            for step, args, kwargs in steps:
                values = (x, residual, y)
                parts = (a.value if type(a) is _Constant else values[a] for a in args)
                y = step(protection, *parts, **kwargs)
        return y

    return chain


class Outcome(NamedTuple):
    """What became of fusing a block."""

    program: Program | None = None  # None where there is no chain
    chains: Sequence[FusedChain] = ()
    reason: str | None = None  # why it runs unfused, or a part of it


def make(block: nn.Module, structure: Structure, trust: tuple[str, ...]) -> Outcome:
    """Trace a block and fuse what there is to fuse."""
    try:
        tracer = trace(block, structure, trust)
        chains = find_chains(tracer.graph, BlockReader(tracer.guard))
        if not chains and not tracer.hooked:
            return Outcome()
        heads = (chain.head.meta["kind"] for chain in chains)
        counts = (len(chain.nodes) for chain in chains)
        reason = f"its {tracer.hooked[0]} carries hooks" if tracer.hooked else None
        return Outcome(Program(tracer, chains), [*map(FusedChain, heads, counts)], reason)
    except Unfusable as error:
        return Outcome(reason=str(error))
    except Exception as error:  # of bninv's own: the block's code is there in any case
        return Outcome(reason=f"bninv failed to fuse it: {type(error).__name__}: {error}")
