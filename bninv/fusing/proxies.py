"""The tensors that a block's code is traced with, and the graph that they write.

Proxies of torch.fx that take back none of their answers: what a tensor would say of its type, its
hash or its text they do not know, and say so.
"""

from __future__ import annotations

import dis
import functools
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bninv._call_site import calling_line
from bninv.exact import names
from bninv.fusing.guard import Guard


class Unfusable(Exception):  # noqa: N818 - no error: the block runs unfused
    """The block cannot be traced, or not all that its calls depend on; says why."""


DEVICES = ("cpu", "cuda")
# Nobody computes in float64 under autocast: code that sets some mode, whichever, is seen to.
UNUSUAL = (True, False, *(True, torch.float64) * 2)


def modes() -> tuple[Any, ...]:
    autocast = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in DEVICES]
    grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    return (*grad, *autocast[0], *autocast[1])


_TENSORS = names("T H mT mH data real imag")  # properties that are tensors
_OF_AUTOGRAD = names("grad grad_fn requires_grad is_leaf retains_grad output_nr _version _base")
IN_PLACE_OPERATORS = tuple(
    getattr(operator, f"i{name}")
    for name in names("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")
)


class BlockTracer(GraphAppendingTracer):
    """The graph that is being made, what it depends on, and why it cannot be used."""

    def __init__(self, trust: tuple[str, ...], protects: bool) -> None:
        super().__init__(Graph())
        self.trust = trust
        self.protects = protects  # whether calls in the block's code are caught
        self.guard = Guard()
        self.refused: list[str] = []
        self.hooked: list[str] = []  # names of modules
        self.sites: dict[nn.Module, Any] = {}
        self._lent: list[tuple[list[Any], list[Any]]] = []

    def refuse(self, reason: str) -> Unfusable:
        """The error to raise; code that handles it does not get away with that."""
        self.refused.append(reason)
        return Unfusable(reason)

    def proxy(self, node: Node) -> Proxy:
        return BlockProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # By its type, for which proxies do not have to be asked.
        if issubclass(type(a), Proxy):
            return a.node
        if issubclass(type(a), Tensor):
            raise self.refuse("it computes with a tensor that is made in it, or from elsewhere")
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any) -> Node:
        if modes() != UNUSUAL:
            raise self.refuse("it changes autocast, the grad mode or the dtype for a part")
        node: Node = self.graph.create_node(kind, target, args, kwargs, *rest)
        node.meta["line"] = calling_line()
        return node

    def call(self, module: nn.Module, args: Any, kwargs: Any, **meta: Any) -> Proxy:
        """A call of a module as one node."""
        node = self.create_proxy("call_module", type(module).__name__, args, kwargs).node
        node.meta.update(meta, module=module)
        return self.proxy(node)

    def lend(self, value: list[Any]) -> list[Any]:
        """A copy of a list for the code to read."""
        copy = list(value)
        self._lent.append((copy, list(value)))
        return copy

    def finish(self, result: Any) -> None:
        for copy, value in self._lent:
            if len(copy) != len(value) or any(a is not b for a, b in zip(copy, value, strict=True)):
                raise self.refuse("it changes a list that is not its own")
        self._check_result(result)
        if self.refused:
            raise Unfusable(self.refused[0])
        self.graph.output(self.create_arg(result))

    def _check_result(self, result: Any) -> None:
        kind = type(result)
        if kind is dict and all(type(key) is str for key in result):
            result = tuple(result.values())
        elif kind not in (list, tuple):
            if kind is not BlockProxy and kind not in (type(None), bool, int, float, str):
                raise self.refuse(f"it returns a {kind.__name__}")
            return
        if any(result is copy for copy, _ in self._lent):
            raise self.refuse("it returns a list that it was given")
        for part in result:
            self._check_result(part)


class BlockProxy(Proxy):
    """In a tensor's place, or in that of what a call returns.

    What a tensor would say of its type, its hash or its text it does not know, and says so.
    """

    # Not Tensor: C++ code that asks would take the proxy's memory for a tensor's. `is_instance`
    # answers for the code that is traced.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise _refusal(self, "it asks for the type of a value not known before it runs")

    def __getattr__(self, name: str) -> Any:
        unknown = self.node.target is getattr and self.node.args[1] not in _TENSORS
        if not hasattr(Tensor, name) or name in _OF_AUTOGRAD or unknown:
            raise _refusal(self, f"it asks a tensor for {name}")
        if not callable(getattr(Tensor, name)):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return functools.partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", name, (self, *args), kwargs)

    def __iter__(self) -> Iterator[Proxy]:
        count = _unpacked_to(sys._getframe(1))
        if count is None:
            raise _refusal(self, "it goes over a tensor, or over its sizes")
        items = self.tracer.create_proxy("call_function", exactly, (self, count), {})
        return iter([items[i] for i in range(count)])

    def is_tensor(self) -> bool:
        """Whether it is known to be one."""
        return self.node.op in ("placeholder", "get_attr") or bool(self.node.meta.get("tensor"))


def _refusal(proxy: Any, reason: str) -> Unfusable:
    tracer: BlockTracer = proxy.tracer
    return tracer.refuse(reason)


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: BlockProxy, *args: Any) -> Any:
        raise _refusal(self, f"it asks a tensor for {name}")

    return refuse


for _name in names("hash repr str format len int float complex index bool contains"):
    setattr(BlockProxy, f"__{_name}__", _refusing(f"__{_name}__"))


def _in_place(function: Any) -> Any:
    def change(self: BlockProxy, other: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return change


# torch.fx has none of these: `x += y` would be recorded as `x = x + y`, which leaves the tensor as
# it was for whoever else holds it.
for _function in IN_PLACE_OPERATORS:
    setattr(BlockProxy, f"__{_function.__name__}__", _in_place(_function))


def _unpacked_to(frame: Any) -> int | None:
    """How many variables a frame is about to give the items of a value to, as torch.fx finds it."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset == frame.f_lasti and instruction.opname == "UNPACK_SEQUENCE":
            return int(instruction.argval)
    return None


def exactly(value: Any, count: int) -> tuple[Any, ...]:
    """The items of a value that is unpacked to `count` variables."""
    items = tuple(value)
    if len(items) != count:
        many = "too many" if len(items) > count else "not enough"
        got = "" if len(items) > count else f", got {len(items)}"
        raise ValueError(f"{many} values to unpack (expected {count}{got})")
    return items


class OnlyProxies(TorchFunctionMode):
    """Refuses calls of torch's that no proxy is part of.

    A graph would hold their results: a tensor drawn at random, the grad mode as it was.
    """

    def __init__(self, tracer: BlockTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not any(issubclass(type(a), Proxy) for a in pytree.tree_leaves((args, kwargs))):
            raise self.tracer.refuse(f"it calls {getattr(func, '__name__', func)}")
        return func(*args, **(kwargs or {}))


def is_instance(value: Any, kinds: Any) -> bool:
    if type(value) is not BlockProxy:
        return isinstance(value, kinds)
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if not value.is_tensor() or not isinstance(kind, type):
            raise _refusal(value, "it asks for the type of a value not known before it runs")
        if kind is Tensor:
            return True
        if kind not in (list, tuple, dict, set, int, float, bool, str):
            raise _refusal(value, f"it asks whether a tensor is a {kind.__name__}")
    return False


def type_of(*args: Any) -> Any:
    if type(args[0]) is BlockProxy:
        raise _refusal(args[0], "it asks for the type of a value not known before it runs")
    return type(*args)
