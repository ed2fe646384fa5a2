"""The tensors that a block's code is recorded with."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node, Proxy
from torch.fx.proxy import Attribute, GraphAppendingTracer

from bninv._call_site import calling_frame
from bninv.fusion.errors import Unfusable


class TensorProxy(Proxy):
    """Known to be a tensor, and says so: code that asks takes the way that tensors take."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return Tensor

    def __getattr__(self, name: str) -> Attribute:
        if not hasattr(Tensor, name):
            raise AttributeError(name)
        return Attribute(self, name)


class UnknownProxy(Proxy):
    """A tensor, a number, or something else: code that asks which cannot be recorded."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise Unfusable("it asks for the type of a value that is not known before it runs")


class BlockTracer(GraphAppendingTracer):
    """Gives each node the line of the model's code that made it: `meta["line"]`."""

    def proxy(self, node: Node) -> Proxy:
        known = node.op in ("placeholder", "get_attr") or node.meta.get("tensor", False)
        return TensorProxy(node, self) if known else UnknownProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # By its type: the proxies above give another answer to isinstance, or none.
        return a.node if issubclass(type(a), Proxy) else super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any) -> Node:
        node: Node = self.graph.create_node(kind, target, args, kwargs, *rest)
        frame = calling_frame()
        if frame is not None:
            node.meta["line"] = (frame.f_code.co_filename, frame.f_lineno)
        return node
