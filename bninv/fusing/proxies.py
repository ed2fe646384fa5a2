"""The tensors that a block's code is traced with.

Proxies of torch.fx, which would answer `False` where a tensor answers `True`: what a tensor would
say of its type, its hash or its text these do not know, and say so.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bninv import _torch
from bninv.dispatch.call_site import calling_line
from bninv.dispatch.exact import names

_DEVICES = ("cpu", "cuda")
_IN_PLACE = names("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")
_UNANSWERED = names("hash repr str format len int float complex index bool contains")
_MAY_BE_NONE = names("grad grad_fn _base")
_TENSORS = names("T H mT mH data real imag")  # attributes of a tensor that are tensors
_CONTAINERS = (list, tuple, dict, set, int, float, bool, str)


class Unfusable(Exception):  # noqa: N818 - no error: the block runs unfused
    """The block cannot be traced, or not all that its calls depend on; says why."""


def modes() -> tuple[Any, ...]:
    """What code can ask for without a tensor, and what changes what operators do."""
    grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    if not _torch.any_autocast():
        return grad
    return *grad, *((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)


class ProxyTracer(GraphAppendingTracer):
    """Writes a graph of what is done with proxies."""

    def __init__(self) -> None:
        super().__init__(Graph())
        self.refused: list[str] = []
        self._modes = modes()

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
        if modes() != self._modes:
            raise self.refuse("it changes autocast or the grad mode for a part of it")
        node: Node = self.graph.create_node(kind, target, args, kwargs, *rest)
        node.meta["line"] = calling_line()
        return node

    def finish(self, result: Any) -> None:
        self._check_result(result)
        self.create_node("output", "output", (self.create_arg(result),), {})
        if self.refused:
            raise Unfusable(self.refused[0])

    def _check_result(self, result: Any) -> None:
        if type(result) in (list, tuple, dict):
            for part in result.values() if type(result) is dict else result:
                self._check_result(part)
        elif type(result) not in (BlockProxy, type(None), bool, int, float, str):
            raise self.refuse(f"it returns a {type(result).__name__}")


class BlockProxy(Proxy):
    """In a tensor's place, or in that of what a call returns."""

    # Not Tensor: C++ code that asks would take the proxy's memory for a tensor's. `is_instance`
    # answers for the code that is traced.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise _refusal(self, "it asks for the type of a value not known before it runs")

    def __getattr__(self, name: str) -> Any:
        # At once: torch.fx notes an attribute where it is used first, which may have changed then.
        unknown = self.node.target is getattr and self.node.args[1] not in _TENSORS
        if unknown or not hasattr(Tensor, name) or name in _MAY_BE_NONE:
            raise _refusal(self, f"it asks a tensor for {name}")
        if callable(getattr(Tensor, name)):
            return functools.partial(self._call, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", name, (self, *args), kwargs)

    def is_tensor(self) -> bool:
        """Whether it is known to be one."""
        return self.node.op in ("placeholder", "get_attr") or bool(self.node.meta.get("tensor"))


def _refusal(proxy: Any, reason: str) -> Unfusable:
    tracer: ProxyTracer = proxy.tracer
    return tracer.refuse(reason)


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: BlockProxy, *args: Any) -> Any:
        raise _refusal(self, f"it asks a tensor for {name}")

    return refuse


def _changing(function: Any) -> Callable[..., Any]:
    def change(self: BlockProxy, other: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return change


for _name in _UNANSWERED:
    setattr(BlockProxy, f"__{_name}__", _refusing(f"__{_name}__"))
# torch.fx has none of these: `x += y` would be recorded as `x = x + y`, which leaves the tensor as
# it was for whoever else holds it.
for _name in _IN_PLACE:
    setattr(BlockProxy, f"__i{_name}__", _changing(getattr(operator, f"i{_name}")))


class OnlyProxies(TorchFunctionMode):
    """Refuses calls of torch's that no proxy is part of, before they draw a random number: the
    generator is everybody's.
    """

    def __init__(self, tracer: ProxyTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not any(issubclass(type(a), Proxy) for a in pytree.tree_leaves((args, kwargs))):
            raise self.tracer.refuse(f"it calls {getattr(func, '__name__', func)}")
        return func(*args, **(kwargs or {}))


def is_instance(value: Any, kinds: Any) -> bool:
    """`isinstance`, for code that is traced."""
    if type(value) is not BlockProxy:
        return isinstance(value, kinds)
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if not value.is_tensor() or kind not in (Tensor, *_CONTAINERS):
            raise _refusal(value, "it asks for the type of a value not known before it runs")
        if kind is Tensor:
            return True
    return False


def type_of(*args: Any) -> Any:
    """`type`, for code that is traced."""
    if type(args[0]) is BlockProxy:
        raise _refusal(args[0], "it asks for the type of a value not known before it runs")
    return type(*args)
