"""Traces a block with torch.fx: its code runs once, on proxies and on stand-ins for its modules.

A stand-in has its module's class, as it was before patching, and a copy of its attributes. So the
block itself is neither called nor changed, and no other thread sees anything: torch.fx's own
`Tracer` would set `nn.Module.__call__` for the whole process.
"""

from __future__ import annotations

import enum
import functools
import inspect
import itertools
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy
from torch.utils import _pytree as pytree

from bninv._protection import outside_all_modes
from bninv.fusing.guard import Guard, content_of, has_hooks, is_special, same
from bninv.fusing.proxies import (
    BlockProxy,
    OnlyProxies,
    ProxyTracer,
    Unfusable,
    is_instance,
    type_of,
)
from bninv.fusing.structure import Structure
from bninv.fusing.trust import is_trusted, unseen, untrusted
from bninv.modules.base import Patched, forward_owner, stock_class
from bninv.modules.entry import is_entry, own_methods
from bninv.modules.exact import is_exact, is_identity
from bninv.operators.batch_norm import BatchNormAct, FrozenBatchNorm

# A block with more modules than that is called, not taken apart, where another block uses it.
_SMALL = 12
_CONSTANTS = (
    *(type(None), bool, int, float, str, enum.Enum),
    *(torch.dtype, torch.device, torch.Size, torch.memory_format),
)
_FUNCTIONS = (type, FunctionType, BuiltinFunctionType)
_CONTAINERS = (list, dict, set)
_TRACER = "_bninv_tracer"
_MISSING = object()


class StandIn:
    """Base of the classes of stand-ins: before the module's own class."""

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        tracer: BlockTracer = own[_TRACER]
        module = tracer.module[id(self)]
        if (module, name) not in tracer.reads:
            tracer.reads.add((module, name))
            tracer.depend_on(module, name)
        if name not in own:
            for kind in ("_parameters", "_buffers"):
                if vars(module)[kind].get(name) is not None:
                    proxy = tracer.create_proxy("get_attr", name, (), {})
                    proxy.node.meta["module"] = module
                    return proxy
        return super().__getattribute__(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tracer: BlockTracer = object.__getattribute__(self, "__dict__")[_TRACER]
        return tracer.call_module(self, args, kwargs)

    def __hash__(self) -> int:
        return id(self)


def _stand_in_class(stock: type) -> type:
    cls, methods = _made(stock)
    if any(getattr(stock, name, None) is not method for name, method in methods.items()):
        _made.cache_clear()  # of a class that was changed
        cls, _ = _made(stock)
    return cls


@functools.lru_cache(maxsize=4096)
def _made(stock: type) -> tuple[type, dict[str, FunctionType]]:
    methods = dict(own_methods(stock))
    members = {name: _for_tracing(method) for name, method in methods.items()}
    members["__module__"] = stock.__module__
    return type(stock.__name__, (StandIn, stock), members), methods


def _for_tracing(function: Any) -> Any:
    """A function with an `isinstance` and a `type` that know proxies."""
    own: dict[str, Any] = {"isinstance": is_instance, "type": type_of}
    code = function.__code__
    if not own.keys() & set(code.co_names):
        return function
    names = {**function.__globals__, **own}
    rest = (function.__name__, function.__defaults__, function.__closure__)
    made = FunctionType(code, names, *rest)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _stock(module: nn.Module) -> Any:
    return stock_class(module) if isinstance(module, Patched) else type(module)


class BlockTracer(ProxyTracer):
    """The calls of a block, and what they depend on."""

    def __init__(self, block: nn.Module, trust: tuple[str, ...]) -> None:
        super().__init__()
        self.trust = trust
        self.guard = Guard()
        self.hooked: list[str] = []  # names of modules
        self.reads: set[tuple[nn.Module, str]] = set()  # attributes
        self.module: dict[int, nn.Module] = {}  # by the id of its stand-in
        self._protects = hasattr(block, "_bninv_policy")  # whether calls in the code are caught
        self._stand_ins: dict[nn.Module, Any] = {}
        self._names: dict[nn.Module, str] = {}
        self.block = self._stand_in(block, "")

    def finish(self, result: Any) -> None:
        super().finish(result)
        for module, stand_in in self._stand_ins.items():
            now = object.__getattribute__(stand_in, "__dict__")
            before = {**vars(module), "_modules": self._children(module), _TRACER: self}
            for name in before.keys() | now.keys():
                one, other = before.get(name, _MISSING), now.get(name, _MISSING)
                copied = type(one) in _CONTAINERS and type(other) is type(one)
                if not (same(content_of(one), content_of(other)) if copied else one is other):
                    raise self.refuse(f"it changes {name}")

    def _stand_in(self, module: nn.Module, name: str) -> Any:
        if module in self._stand_ins:
            return self._stand_ins[module]
        made: Any = object.__new__(_stand_in_class(_stock(module)))
        self._stand_ins[module], self.module[id(made)], self._names[module] = made, module, name
        own = object.__getattribute__(made, "__dict__")
        own |= {k: v.copy() if type(v) in _CONTAINERS else v for k, v in vars(module).items()}
        own[_TRACER] = self
        for key, child in module._modules.items():
            if child is not None:
                self._stand_in(child, f"{name}.{key}" if name else key)
        own["_modules"] = self._children(module)
        return made

    def _children(self, module: nn.Module) -> dict[str, Any]:
        return {
            key: None if child is None else self._stand_ins[child]
            for key, child in module._modules.items()
        }

    # ---- What the calls depend on ----------------------------------------------------------------

    def depend_on(self, module: nn.Module, name: str) -> None:
        """Guard an attribute that was read."""
        own, guard, stock = vars(module), self.guard, _stock(module)
        if name in ("_modules", *own["_modules"]):
            guard.parents[module] = None
        elif name in own:
            self._need_constant(name, own[name])
            guard.values[module, name] = own[name]
            if type(own[name]) in _CONTAINERS:
                guard.contents.append(own[name])
        elif name in own["_parameters"] or name in own["_buffers"]:
            kind = "_parameters" if name in own["_parameters"] else "_buffers"
            guard.registered.add((module, kind, name))
        elif not hasattr(stock, name):
            guard.absent.add((module, name))
        elif not name.startswith("__"):
            value: Any = inspect.getattr_static(stock, name)
            if value is inspect.getattr_static(nn.Module, name, None):
                return  # known, whatever it does
            function = getattr(value, "fget", getattr(value, "__func__", value))
            now = vars(type(module)).get(name, value)
            if not (now is value or is_entry(now)):
                raise self.refuse(f"its patched class's {name} was replaced")
            if not isinstance(value, classmethod):  # which is bound anew at each look
                guard.inherited |= {(type(module), name), (stock, name)}
            if isinstance(function, FunctionType):
                reason = unseen(function.__code__)
                if reason is not None:
                    raise self.refuse(reason)
            elif type(value) in _CONTAINERS:
                raise self.refuse(f"it reads its class's {name}, a {type(value).__name__}")
            else:
                self._need_constant(name, value)

    def _need_constant(self, name: str, value: Any) -> None:
        for part in content_of(value) if type(value) in (*_CONTAINERS, tuple) else (value,):
            if not isinstance(part, (*_CONSTANTS, *_FUNCTIONS)):
                kind = type(part).__name__
                raise self.refuse(f"it reads its attribute {name}, of type {kind}")
            if isinstance(part, _FUNCTIONS):
                package = str(part.__module__)
                if not (package == "builtins" or is_trusted(package, self.trust)):
                    raise self.refuse(f"it reads {name}, a function of {package}")

    # ---- Calling ---------------------------------------------------------------------------------

    def call_module(self, stand_in: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of a module, or in its place what the module does."""
        module = self.module[id(stand_in)]
        is_kind = isinstance(module, Patched) and module.is_kind and not module.is_changed()
        if is_special(module):
            if has_hooks(module):
                self.hooked.append(self._names[module])
            self.guard.special[module] = None
            return self._call(module, args, kwargs)
        if kwargs or len(args) != 1 or _stock(module).__call__ is not _CALL:
            return self._call(module, args, kwargs, tensor=is_kind)
        owner = forward_owner(module)
        is_sequential = owner == "torch.nn.modules.container.Sequential"
        if is_kind or is_identity(owner):
            self.guard.whole[module] = type(module)
            self.guard.inherited.add((_stock(module), "forward"))
        if is_identity(owner):
            return args[0]
        if isinstance(module, (BatchNormAct, FrozenBatchNorm)):
            self.guard.parents[module] = None
            x = self._call(module, args, {}, kind=module, part="normalize", tensor=True)
            for name in ("drop", "act"):
                if name in module._modules:
                    x = getattr(stand_in, name)(x)
            return x
        if is_kind:
            part = "invariant_forward"
            return self._call(module, args, {}, kind=module, part=part, tensor=True)
        if is_sequential or (self._protects and self._is_small(module)):
            return self._inline(stand_in, module, args)
        return self._call(module, args, {})

    def _call(self, module: nn.Module, args: Any, kwargs: Any, **meta: Any) -> Proxy:
        """A call of a module as one node."""
        node = self.create_proxy("call_module", type(module).__name__, args, kwargs).node
        node.meta.update(meta, module=module)
        return self.proxy(node)

    def _is_small(self, module: nn.Module) -> bool:
        """Whether this is a block of known layers and nothing else."""
        if not (isinstance(module, Patched) and module.fuses):
            return False
        inner = list(module.modules())[1:]
        return len(inner) <= _SMALL and all(
            is_exact(forward_owner(m), m) or isinstance(m, Patched) for m in inner
        )

    def _inline(self, stand_in: Any, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if untrusted(_stock(module), self.trust) is not None:
            return self._call(module, args, {})
        last, refused = next(iter(reversed(self.graph.nodes)), None), len(self.refused)
        try:
            result = stand_in.forward(*args)
        except Exception:
            if type(args[0]) is not BlockProxy:  # a list that it may have changed
                raise
            # What it has read so far is guarded too, which does no harm.
            for node in reversed(list(self.graph.nodes)):
                if node is last:
                    break
                self.graph.erase_node(node)
            del self.refused[refused:]
            return self._call(module, args, {})
        self.guard.whole[module] = type(module)
        return result


_CALL: Any = nn.Module.__call__


def trace(block: nn.Module, structure: Structure, trust: tuple[str, ...]) -> BlockTracer:
    """The calls of a block's forward on arguments of that structure.

    Raises:
        Unfusable: the code is not trusted, or does something that a graph does not hold.
    """
    tracer = BlockTracer(block, trust)
    package = untrusted(_stock(block), trust)
    if package is not None:
        top = package if package == "__main__" else package.partition(".")[0]
        raise Unfusable(
            f"nobody vouches for the code of {package}: `bninv.patch(model, trust=({top!r},))` "
            'does, and `torch.compile(model, backend="bninv")` fuses any code'
        )
    count = itertools.count()
    with outside_all_modes(), OnlyProxies(tracer):
        try:
            args = structure.unflatten(
                lambda: tracer.create_proxy("placeholder", f"x{next(count)}", (), {})
            )
            before = pytree.tree_flatten(args)
            result = tracer.block.forward(*args)
            leaves, spec = pytree.tree_flatten(args)
            if spec != before[1] or not same(leaves, before[0]):
                raise tracer.refuse("it changes a list that it is given")
            tracer.finish(result)
        except Unfusable as error:
            raise Unfusable(next(iter(tracer.refused), str(error))) from None
        except Exception as error:
            # Whatever the code raises when it meets a proxy.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise Unfusable(f"torch.fx cannot trace it: {lines[0]}") from error
    return tracer
