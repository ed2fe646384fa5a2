"""Modules with code of their own: their calls are caught, whichever way they are entered.

`model(x)`, `model.forward_features(x)` and `model.blocks[0](x)` are all calls of methods of some
module. Patching gives such a module a class whose methods, when handed a tensor, run under the
protection; where it is on already, that costs a test of a flag.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bninv._protection import active, step_in, step_out
from bninv.dispatch.blocks import by_program, stock_forward
from bninv.dispatch.catch import Invariant
from bninv.dispatch.policy import Policy
from bninv.dispatch.tracing import protect_traced
from bninv.modules.base import Patched

Method = Callable[..., Any]


class Protected(Patched):
    """A module of unknown code. In training mode it does what the stock one does."""

    is_kind = False
    fuses = True
    _bninv_policy: Policy

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        return {
            name: protected(by_program(method) if name == "forward" else method)
            for name, method in own_methods(stock)
        }

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # A forward of the stock class's own is among the members above: this one is torch.nn's.
        return stock_forward(self, *args, **kwargs)


class SeenByCalls(Protected):
    """A module of torch.nn that stays what it is, but whose calls are looked up as it runs."""

    fuses = False

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        return {**super().members(stock), "forward": protected(stock_forward)}


class Excluded(Patched):
    """A module that `filter_fn` left out below a protected one: its own calls stay stock."""

    is_kind = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        protection = step_out()
        try:
            return super(Patched, self).forward(*args, **kwargs)  # type: ignore[misc]
        finally:
            step_in(protection)


def own_methods(stock: type) -> Iterator[tuple[str, Method]]:
    """The methods that a class and its bases below torch.nn define."""
    seen: set[str] = set()
    for cls in stock.__mro__:
        if cls.__module__.startswith("torch.nn.") or cls is object:
            continue
        for name, value in vars(cls).items():
            hidden = name.startswith("__") or name in seen
            if not hidden and isinstance(value, FunctionType):
                seen.add(name)
                yield name, value


def protected(method: Method) -> Method:
    """A method under the protection of the module's policy; in training mode it runs as it is."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.training:
            protection = step_out()
            if protection is None:
                return method(self, *args, **kwargs)
            try:
                return method(self, *args, **kwargs)
            finally:
                step_in(protection)
        if active() is not None:
            return method(self, *args, **kwargs)
        return _enter(method, self, args, kwargs)

    # torch.compile counts compilations by code object: all models would share one limit.
    own: Any = call
    own.__code__ = own.__code__.replace(co_name=method.__name__)
    return call


def _enter(method: Method, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    proxy = _first((args, kwargs), Proxy)
    if proxy is not None:
        return protect_traced(proxy.tracer, lambda: method(module, *args, **kwargs))
    if _first((args, kwargs), Tensor) is None:
        return method(module, *args, **kwargs)
    policy = module._bninv_policy
    with Invariant(policy):
        result = method(module, *args, **kwargs)
    if not torch.compiler.is_compiling():  # where an uncovered call is an error
        policy.tell()
    return result


def _first(value: Any, kind: type) -> Any:
    """The first instance of `kind` in nested tuples, lists and dicts, or None."""
    if isinstance(value, kind):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            found = _first(item, kind)
            if found is not None:
                return found
    return None


def policy_of(model: nn.Module) -> Policy | None:
    """The policy that a model's protected modules share."""
    for module in model.modules():
        policy = module.__dict__.get("_bninv_policy")
        if policy is not None:
            return policy
    return None
