"""The ways into a patched module: whatever runs by one of them, runs under the module's protection.

Patching gives a module a class in which its call, and every method, property and other descriptor
of its own class, first sees to that. Where the protection is on already, that costs a test of a
flag. What a class defines is looked up at each call: it may be replaced after patching.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy

from bninv import _torch
from bninv._protection import active, step_in, step_out
from bninv.modules.later import by_steps, by_steps_async

# What torch.nn calls to build, move, save and print a module is no part of a run; nor are these.
_NO_ENTRY = {*dir(nn.Module), "__prepare_scriptable__", "__post_init__"}
_LATER = (GeneratorType, CoroutineType, AsyncGeneratorType)


def own_attributes(stock: type) -> Iterator[tuple[str, Any]]:
    """What a class and its bases below torch.nn define and a user may enter by, but for its call
    and `forward`.
    """
    seen: set[str] = set()
    for cls in stock.__mro__:
        if cls.__module__.startswith("torch.nn.") or cls is object:
            continue
        for name, value in vars(cls).items():
            if name not in seen and name not in _NO_ENTRY and _is_entry(value):
                yield name, value
            seen.add(name)


def own_methods(stock: type) -> Iterator[tuple[str, FunctionType]]:
    """The methods among them, `forward` included."""
    forward = stock.forward  # type: ignore[attr-defined]
    # By the class: generated code, such as a graph's, has no module.
    owner = next(cls for cls in stock.__mro__ if "forward" in vars(cls))
    if isinstance(forward, FunctionType) and not owner.__module__.startswith("torch.nn."):
        yield "forward", forward
    for name, value in own_attributes(stock):
        if isinstance(value, FunctionType) and not name.startswith("__"):
            yield name, value


def _is_entry(value: Any) -> bool:
    if type(value) in (FunctionType, functools.partial, property):
        return True
    # What is also set by way of its class stays as it is: it keeps a value and computes none.
    kind = type(value)
    is_set = hasattr(kind, "__set__") or isinstance(value, nn.Module)
    return hasattr(kind, "__get__") and not is_set


# ---- Entering ------------------------------------------------------------------------------------


def enter(module: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function under the protection of the module's policy."""
    policy = module._bninv_policy or _adopt_policy(module)
    proxy = _proxy_in((args, kwargs))
    if proxy is not None:
        return policy.record(proxy.tracer, lambda: function(*args, **kwargs))
    result = policy.run(function, *args, **kwargs)
    return by_steps(functools.partial(enter, module), result) if type(result) in _LATER else result


def _adopt_policy(module: Any) -> Any:
    """That of the layers of a module made after patching: a slice of a container has its class."""
    others = (inner.__dict__.get("_bninv_policy") for inner in module.modules())
    module._bninv_policy = next(filter(None, others), None) or module.new_policy()
    return module._bninv_policy


def is_covered(module: Any) -> bool:
    """Whether a protection is on that does what the module's own would."""
    protection = active()
    if protection is None:
        return False
    policy = module._bninv_policy
    # Inside the user's own, or another model's, a model keeps its precision.
    return policy is None or policy.precision == protection.policy.precision


def stays_stock(module: Any) -> bool:
    """Whether the module is to do what a stock one does: it trains, and gradients are wanted."""
    return module.training and torch.is_grad_enabled()


def as_stock(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function outside of the protection of any patched model around.

    Not outside of the user's own `bninv.invariant()`: there a patched module is protected as a
    stock one would be.
    """
    protection = active()
    if protection is None or not protection.of_model:
        return function(*args, **kwargs)
    step_out()
    try:
        return function(*args, **kwargs)
    finally:
        step_in(protection)


def guarded(module: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function as what a module runs when it is entered, in whatever mode it is."""
    if stays_stock(module):
        return as_stock(function, *args, **kwargs)
    if is_covered(module):
        return function(*args, **kwargs)
    return enter(module, function, *args, **kwargs)


def _proxy_in(value: Any) -> Any:
    """The first torch.fx proxy in nested tuples, lists and dicts, or None."""
    if isinstance(value, Proxy):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            found = _proxy_in(item)
            if found is not None:
                return found
    return None


# ---- What a patched class has in place of its stock class's --------------------------------------


def entry(stock: type, name: str, value: Any) -> Any:
    """What the class of a patched module has under the name of an attribute of its stock class."""
    if isinstance(value, FunctionType):
        if inspect.isgeneratorfunction(value):
            return _generator(stock, name, value)
        if inspect.iscoroutinefunction(value):
            return _coroutine(stock, name, value)
        return method(stock, name, value)
    if isinstance(value, property):
        return property(_getter(stock, name), value.fset, value.fdel, value.__doc__)
    return _Descriptor(stock, name)


def method(stock: type, name: str, function: Any, run: Callable[..., Any] | None = None) -> Any:
    """A method under protection; `run`, if given, is called in its place."""

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        to_call = run or getattr(stock, name)
        if type(to_call) is not FunctionType:
            return guarded(self, bound(self, stock, name), *args, **kwargs)
        if self.training and torch.is_grad_enabled():
            return as_stock(to_call, self, *args, **kwargs)
        if is_covered(self):
            return to_call(self, *args, **kwargs)
        return enter(self, to_call, self, *args, **kwargs)

    return _with_code_of_its_own(call, name)


def module_call(stock: type) -> Any:
    """The call of a module with code of its own: its hooks run under protection as well."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        to_call = stock.__call__
        if not (is_covered(self) or stays_stock(self) or self._compiled_call_impl is not None):
            return enter(self, to_call, self, *args, **kwargs)
        return to_call(self, *args, **kwargs)

    return _with_code_of_its_own(__call__, f"{stock.__name__}.__call__")


def layer_call(stock: type) -> Any:
    """The call of a layer that bninv computes: there is something to protect if it has hooks."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        to_call = stock.__call__
        if to_call is _CALL and not torch.compiler.is_compiling() and _is_unobserved(self):
            return self.forward(*args, **kwargs)
        if (self._forward_hooks or self._forward_pre_hooks) and self._compiled_call_impl is None:
            return guarded(self, to_call, self, *args, **kwargs)
        return to_call(self, *args, **kwargs)

    return _with_code_of_its_own(__call__, f"{stock.__name__}.__call__")


_CALL = nn.Module.__call__  # torch.fx has another in its place while it traces


def _is_unobserved(module: Any) -> bool:
    """Whether a call of a module is one of its forward and no more, as nn.Module's call asks too,
    in two calls of functions that cost a small layer's share of its time.
    """
    own = module.__dict__
    return not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or module._compiled_call_impl is not None
        or _torch.tracing_state() is not None
        or _torch.has_global_hooks()
    )


def _with_code_of_its_own(function: Any, name: str) -> Any:
    # torch.compile counts compilations by code object: all models would share one limit.
    function.__code__ = function.__code__.replace(co_name=name)
    return _marked(function)


def _marked(function: Any) -> Any:
    function._bninv_entry = True
    return function


def is_entry(value: Any) -> bool:
    """Whether an attribute of a patched class is one that patching has put there."""
    return isinstance(value, _Descriptor) or hasattr(getattr(value, "fget", value), "_bninv_entry")


def bound(module: Any, stock: type, name: str) -> Any:
    """An attribute as a module of the stock class has it."""
    found = inspect.getattr_static(stock, name)
    return found.__get__(module, stock) if hasattr(type(found), "__get__") else found


def _getter(stock: type, name: str) -> Callable[[Any], Any]:
    def get(self: Any) -> Any:
        return guarded(self, bound, self, stock, name)

    return _marked(get)


class _Descriptor:
    """staticmethod, classmethod, partialmethod, cached_property and the like."""

    def __init__(self, stock: type, name: str) -> None:
        self._stock, self._name = stock, name

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return getattr(self._stock, self._name)
        value = guarded(module, bound, module, self._stock, self._name)
        static = inspect.getattr_static(self._stock, self._name)
        if isinstance(static, functools.cached_property) or not callable(value):
            return value
        wrapped = functools.partial(guarded, module, value)
        functools.update_wrapper(wrapped, value)
        return wrapped


def _generator(stock: type, name: str, function: Any) -> Any:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = getattr(stock, name)(self, *args, **kwargs)
        return (yield from by_steps(functools.partial(guarded, self), made))

    return _marked(call)


def _coroutine(stock: type, name: str, function: Any) -> Any:
    @functools.wraps(function)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = getattr(stock, name)(self, *args, **kwargs)
        return await by_steps_async(functools.partial(guarded, self), made)

    return _marked(call)
