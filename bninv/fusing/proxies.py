"""The tensors that a block's code is recorded with."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import Attribute, GraphAppendingTracer
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bninv._call_site import calling_frame
from bninv.exact import names
from bninv.fusing.errors import Unfusable

IN_PLACE_OPERATORS = names(
    "iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor ilshift irshift"
)


class BlockProxy(Proxy):
    """Says that it is a tensor where that is known: code that asks takes the way of tensors."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        if not self.is_tensor():
            raise Unfusable("it asks for the type of a value that is not known before it runs")
        return Tensor

    def __getattr__(self, name: str) -> Attribute:
        if self.is_tensor() and not hasattr(Tensor, name):
            raise AttributeError(name)
        return Attribute(self, name)

    def is_tensor(self) -> bool:
        return self.node.op in ("placeholder", "get_attr") or bool(self.node.meta.get("tensor"))


def _in_place(function: Any) -> Any:
    def change(self: BlockProxy, other: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return change


# torch.fx has none of these: `x += y` would be recorded as `x = x + y`, which leaves the tensor as
# it was for whoever else holds it.
for _name in IN_PLACE_OPERATORS:
    setattr(BlockProxy, f"__{_name}__", _in_place(getattr(operator, _name)))


def _modes() -> tuple[Any, ...]:
    """What calls depend on beside their arguments."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch._C._is_any_autocast_enabled(),
        torch.get_default_dtype(),
    )


class OnlyProxies(TorchFunctionMode):
    """Refuses calls of torch's that no proxy is part of.

    A recording would hold their results: a tensor drawn at random, the grad mode as it was.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not any(issubclass(type(a), Proxy) for a in pytree.tree_leaves((args, kwargs))):
            raise Unfusable(f"it calls {getattr(func, '__name__', func)}")
        return func(*args, **(kwargs or {}))


class BlockTracer(GraphAppendingTracer):
    """Gives each node the line of the model's code that made it: `meta["line"]`."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._modes = _modes()

    def proxy(self, node: Node) -> Proxy:
        return BlockProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # By its type: the proxies above give another answer to isinstance, or none.
        if issubclass(type(a), Proxy):
            return a.node
        if issubclass(type(a), Tensor):
            raise Unfusable("it computes with a tensor that is made in it, or comes from elsewhere")
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any) -> Node:
        if _modes() != self._modes:
            raise Unfusable("it changes autocast, the grad mode or the default dtype for a part")
        node: Node = self.graph.create_node(kind, target, args, kwargs, *rest)
        frame = calling_frame()
        if frame is not None:
            node.meta["line"] = (frame.f_code.co_filename, frame.f_lineno)
        return node
