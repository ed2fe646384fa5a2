"""What is in a module's place while code is traced that uses it.

A shell has the class of the module before it was patched, reads the module's attributes, and
refuses to be changed; what is read of it goes into the guard.
"""

from __future__ import annotations

import enum
import functools
import inspect
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from bninv.exact import names
from bninv.fusing.guard import HOOKS, is_special
from bninv.fusing.proxies import BlockProxy, BlockTracer, is_instance, type_of
from bninv.fusing.trust import is_trusted_name, unseen, untrusted
from bninv.nn.base import Patched, forward_owner, stock_class
from bninv.nn.batch_norm import BatchNormAct, FrozenBatchNorm
from bninv.nn.exact import is_exact, is_identity

# A block with more modules than that is called, not taken apart, where another block uses it.
_SMALL = 12
_CONSTANTS = (
    *(type(None), bool, int, float, str, enum.Enum),
    *(torch.dtype, torch.device, torch.Size, torch.memory_format),
)
_FUNCTIONS = (type, FunctionType, BuiltinFunctionType)
_NOT_FOUND = object()
# What shells do in their own way, or what would see more of them than attributes.
_MACHINERY = names("__call__ __getattr__ __getattribute__ __setattr__ __delattr__ __new__")


class Shell:
    """Base of the classes of shells: before the module's own class."""

    _bninv_site: Any

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, "_bninv_site").read(name)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # nn.Module's own would look again

    def __setattr__(self, name: str, value: Any) -> None:
        raise object.__getattribute__(self, "_bninv_site").tracer.refuse(f"it sets {name}")

    def __delattr__(self, name: str) -> None:
        raise object.__getattribute__(self, "_bninv_site").tracer.refuse(f"it deletes {name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_bninv_site").call(args, kwargs)

    def __hash__(self) -> int:
        return id(self)


@functools.lru_cache(maxsize=4096)
def _shell_class(stock: type) -> type:
    return type(stock.__name__, (Shell, stock), {"__module__": stock.__module__})


class Site:
    """A module that is traced, with its shell."""

    def __init__(self, tracer: BlockTracer, module: nn.Module, name: str = "") -> None:
        self.tracer, self.module, self.name = tracer, module, name
        self.stock: Any = stock_class(module) if isinstance(module, Patched) else type(module)
        self._children: dict[str, Any] = {}
        cls: Any = _shell_class(self.stock)
        self.shell = cls.__new__(cls)
        object.__setattr__(self.shell, "_bninv_site", self)
        own = (c for c in self.stock.__mro__[:-1] if not c.__module__.startswith("torch.nn."))
        self.opaque = any(_MACHINERY & vars(c).keys() for c in own)

    def child(self, name: str) -> Any:
        if name not in self._children:
            path = f"{self.name}.{name}" if self.name else name
            module = self.module._modules[name]
            assert module is not None
            sites = self.tracer.sites
            if module not in sites:  # a module with two names has one shell
                sites[module] = Site(self.tracer, module, path)
            self._children[name] = sites[module].shell
        return self._children[name]

    # ---- Reading ---------------------------------------------------------------------------------

    def read(self, name: str) -> Any:
        module, guard = self.module, self.tracer.guard
        own = vars(module)
        if name == "__class__":
            return self.stock
        if self.opaque:
            raise self.tracer.refuse(f"{self.stock.__name__} has its own way to read attributes")
        if name == "_modules":
            guard.parents.add(module)
            children = own["_modules"].items()
            return {key: None if m is None else self.child(key) for key, m in children}
        if name in ("__dict__", "_parameters", "_buffers", *HOOKS):
            raise self.tracer.refuse(f"it reads {name}")
        if name in own:
            value = own[name]
            self._need_constant(name, value)
            guard.values[module, name] = value
            if isinstance(value, list):
                guard.lists.append((value, list(value)))
                return self.tracer.lend(value)
            return self._for_tracing(value) if isinstance(value, FunctionType) else value
        found = inspect.getattr_static(self.stock, name, _NOT_FOUND)
        return self._member(name) if found is _NOT_FOUND else self._inherited(name, found)

    def _member(self, name: str) -> Any:
        """A parameter, a buffer or a module."""
        module, guard = self.module, self.tracer.guard
        for kind in ("_parameters", "_buffers"):
            if name in vars(module)[kind]:
                value = vars(module)[kind][name]
                guard.own.add((module, kind, name, value is not None))
                if value is None:
                    return None
                proxy = self.tracer.create_proxy("get_attr", name, (), {})
                proxy.node.meta["module"] = module
                return proxy
        if name in module._modules:
            guard.parents.add(module)
            return None if module._modules[name] is None else self.child(name)
        guard.absent.add((module, name))
        raise AttributeError(f"{self.stock.__name__} has no attribute {name}")

    def _inherited(self, name: str, value: Any) -> Any:
        if isinstance(value, property):
            if not isinstance(value.fget, FunctionType):
                raise self.tracer.refuse(f"it reads its {name}")
            return self._for_tracing(value.fget)(self.shell)
        self.tracer.guard.overridable.add((self.module, name))
        if isinstance(value, FunctionType):
            wraps = vars(type(self.module)).get(name, value)  # made when the module was patched
            while wraps is not value:
                wraps = getattr(wraps, "__wrapped__", None)
                if wraps is None:
                    raise self.tracer.refuse(f"its class's {name} was replaced")
            if self.name:
                self.tracer.guard.whole[self.module] = type(self.module)
            return MethodType(self._for_tracing(value), self.shell)
        if isinstance(value, staticmethod):
            return self._for_tracing(value.__func__)
        if name.startswith("__") and not isinstance(value, classmethod):
            return object.__getattribute__(self.shell, name)
        if isinstance(value, (list, classmethod)):
            raise self.tracer.refuse(f"it reads its class's {name}, a {type(value).__name__}")
        self._need_constant(name, value)
        self.tracer.guard.inherited[type(self.module), name] = value
        return value

    def _need_constant(self, name: str, value: Any) -> None:
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(part, (*_CONSTANTS, *_FUNCTIONS)):
                kind = type(part).__name__
                raise self.tracer.refuse(f"it reads its attribute {name}, of type {kind}")
            if isinstance(part, _FUNCTIONS):
                package = str(part.__module__)
                if not (package == "builtins" or is_trusted_name(package, self.tracer.trust)):
                    raise self.tracer.refuse(f"it reads {name}, a function of {package}")

    def _for_tracing(self, function: Any) -> Any:
        """A function with an `isinstance` and a `type` that know proxies."""
        if not isinstance(function, FunctionType):
            raise self.tracer.refuse(f"it calls {getattr(function, '__name__', function)}")
        reason = unseen(function.__code__)
        if reason is not None:
            raise self.tracer.refuse(reason)
        own: dict[str, Any] = {"isinstance": is_instance, "type": type_of}
        if not own.keys() & set(function.__code__.co_names):
            return function
        made = FunctionType(
            function.__code__,
            {**function.__globals__, **own},
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        made.__kwdefaults__ = function.__kwdefaults__
        return made

    # ---- Calling ---------------------------------------------------------------------------------

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of the module, or in its place what the module does."""
        module, tracer = self.module, self.tracer
        owner = forward_owner(module)
        is_kind = isinstance(module, Patched) and module.is_kind
        if is_special(module):
            if any(vars(module)[hooks] for hooks in HOOKS):
                tracer.hooked.append(self.name)
            tracer.guard.special.add(module)
            return tracer.call(module, args, kwargs)
        if kwargs or len(args) != 1 or self.opaque:
            return tracer.call(module, args, kwargs, tensor=is_kind)
        if is_identity(owner):
            tracer.guard.whole[module] = type(module)
            return args[0]
        if isinstance(module, (BatchNormAct, FrozenBatchNorm)):
            return self._normalize_and_act(args)
        if is_kind:
            tracer.guard.whole[module] = type(module)
            return tracer.call(
                module, args, kwargs, kind=module, part="invariant_forward", tensor=True
            )
        is_sequential = owner == "torch.nn.modules.container.Sequential"
        if is_sequential or (tracer.protects and self._is_small()):
            return self._inline(args)
        return tracer.call(module, args, kwargs)

    def run_forward(self, *args: Any) -> Any:
        forward: Any = self.read("forward")
        return forward(*args)

    def _normalize_and_act(self, args: tuple[Any, ...]) -> Any:
        module, tracer = self.module, self.tracer
        tracer.guard.whole[module] = type(module)
        tracer.guard.parents.add(module)
        x: Any = tracer.call(module, args, {}, kind=module, part="normalize", tensor=True)
        for name in ("drop", "act"):
            if name in module._modules:
                x = self.child(name)(x)
        return x

    def _is_small(self) -> bool:
        """Whether this is a block of known layers and nothing else."""
        if not (isinstance(self.module, Patched) and self.module.fuses):
            return False
        inner = list(self.module.modules())[1:]
        return len(inner) <= _SMALL and all(
            is_exact(forward_owner(m), m) or isinstance(m, Patched) for m in inner
        )

    def _inline(self, args: tuple[Any, ...]) -> Any:
        tracer = self.tracer
        if untrusted(self.stock, tracer.trust) is not None:
            return tracer.call(self.module, args, {})
        last, refused = next(iter(reversed(tracer.graph.nodes)), None), len(tracer.refused)
        try:
            result = self.run_forward(*args)
        except Exception:
            if type(args[0]) is not BlockProxy:  # a list that it may have changed
                raise
            # What it has read so far is guarded too, which does no harm.
            for node in reversed(list(tracer.graph.nodes)):
                if node is last:
                    break
                tracer.graph.erase_node(node)
            del tracer.refused[refused:]
            return tracer.call(self.module, args, {})
        tracer.guard.whole[self.module] = type(self.module)
        return result
