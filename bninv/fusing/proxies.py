"""The tensors that a block's code is recorded with.

Proxies of torch.fx that take back none of their answers: what a tensor would say of its type, its
hash or its text they do not know, and say so.
"""

from __future__ import annotations

import dis
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bninv._call_site import calling_frame
from bninv.exact import names
from bninv.fusing.errors import Unfusable
from bninv.fusing.modes import modes

IN_PLACE_OPERATORS = names(
    "iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor ilshift irshift"
)
_TENSORS = names("T H mT mH data real imag")  # properties that are tensors
_OF_AUTOGRAD = names("grad grad_fn requires_grad is_leaf retains_grad output_nr _version _base")


class BlockProxy(Proxy):
    """In a tensor's place, or in that of what a call returns."""

    # Not Tensor: C++ code that asks would take the proxy's memory for a tensor's. `is_instance`
    # answers for the code that is recorded.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise Unfusable("it asks for the type of a value that is not known before it runs")

    def __getattr__(self, name: str) -> Any:
        if not hasattr(Tensor, name) or name in _OF_AUTOGRAD or self._is_property():
            raise Unfusable(f"it asks a tensor for {name}")
        if not callable(getattr(Tensor, name)):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})

        def method(*args: Any, **kwargs: Any) -> Proxy:
            return self.tracer.create_proxy("call_method", name, (self, *args), kwargs)

        return method

    def __iter__(self) -> Iterator[Proxy]:
        count = _unpacked_to(sys._getframe(1))
        items = self.tracer.create_proxy("call_function", exactly, (self, count), {})
        return iter([items[i] for i in range(count)])

    def _is_property(self) -> bool:
        """Whether it is a tensor's shape, device or the like."""
        return self.node.target is getattr and self.node.args[1] not in _TENSORS

    def is_tensor(self) -> bool:
        """Whether it is known to be one."""
        return self.node.op in ("placeholder", "get_attr") or bool(self.node.meta.get("tensor"))


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: BlockProxy, *args: Any) -> Any:
        raise Unfusable(f"it asks a tensor for {name}")

    return refuse


for _name in ("hash", "repr", "str", "format", "len", "int", "float", "index", "bool"):
    setattr(BlockProxy, f"__{_name}__", _refusing(f"__{_name}__"))


def _in_place(function: Any) -> Any:
    def change(self: BlockProxy, other: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return change


# torch.fx has none of these: `x += y` would be recorded as `x = x + y`, which leaves the tensor as
# it was for whoever else holds it.
for _name in IN_PLACE_OPERATORS:
    setattr(BlockProxy, f"__{_name}__", _in_place(getattr(operator, _name)))


def _unpacked_to(frame: Any) -> int:
    """How many variables a frame is about to give the items of a value to."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset == frame.f_lasti and instruction.opname == "UNPACK_SEQUENCE":
            return int(instruction.argval)
    raise Unfusable("it goes over a tensor, or over its sizes")


def exactly(value: Any, count: int) -> tuple[Any, ...]:
    """The items of a value that is unpacked to `count` variables."""
    items = tuple(value)
    if len(items) != count:
        many = "too many" if len(items) > count else "not enough"
        got = "" if len(items) > count else f", got {len(items)}"
        raise ValueError(f"{many} values to unpack (expected {count}{got})")
    return items


def is_instance(value: Any, kinds: Any) -> bool:
    """`isinstance` for the code that is recorded."""
    if type(value) is not BlockProxy:
        return isinstance(value, kinds)
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if not value.is_tensor() or not isinstance(kind, type):
            raise Unfusable("it asks for the type of a value that is not known before it runs")
        if kind is Tensor:
            return True
        if kind not in (list, tuple, dict, set, int, float, bool, str):
            raise Unfusable(f"it asks whether a tensor is of the class {kind.__name__}")
    return False


def type_of(*args: Any) -> Any:
    """`type` for the code that is recorded."""
    if type(args[0]) is BlockProxy:
        raise Unfusable("it asks for the type of a value that is not known before it runs")
    return type(*args)


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
        self._modes = modes()

    def proxy(self, node: Node) -> Proxy:
        return BlockProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # By its type, for which proxies do not have to be asked.
        if issubclass(type(a), Proxy):
            return a.node
        if issubclass(type(a), Tensor):
            raise Unfusable("it computes with a tensor that is made in it, or comes from elsewhere")
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any) -> Node:
        if modes() != self._modes:
            raise Unfusable("it changes autocast, the grad mode or the default dtype for a part")
        node: Node = self.graph.create_node(kind, target, args, kwargs, *rest)
        frame = calling_frame()
        if frame is not None:
            node.meta["line"] = (frame.f_code.co_filename, frame.f_lineno)
        return node
