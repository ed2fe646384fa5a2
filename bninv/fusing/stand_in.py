"""What is in a module's place while code is recorded that uses it.

A stand-in says that it is of the module's class, has the attributes and methods of the module as it
was before it was patched, and refuses to be changed. What is read of it goes into the recording.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from bninv.exact import names
from bninv.fusing.code import branches_unseen, is_trusted_name
from bninv.fusing.effects import ORIGINAL_GLOBALS
from bninv.fusing.errors import Unfusable
from bninv.fusing.proxies import is_instance, type_of
from bninv.fusing.recording import MISSING, NORMALIZE, Path, Recording, has_hooks
from bninv.nn.base import Patched, forward_owner, stock_class
from bninv.nn.batch_norm import BatchNormAct, FrozenBatchNorm
from bninv.nn.exact import is_exact, is_identity

_CONSTANTS = (
    *(type(None), bool, int, float, str, enum.Enum),
    *(torch.dtype, torch.device, torch.Size, torch.memory_format),
)
_FUNCTIONS = (type, FunctionType, BuiltinFunctionType)
# A block with more modules than that is called, not taken apart, where another block uses it.
_SMALL = 12
# What stand-ins do in their own way.
_MACHINERY = names(
    "__call__ __getattr__ __getattribute__ __setattr__ __getitem__ __iter__ __len__ __contains__"
)


class Site:
    """A module, where it is in the block, and what is recorded of it."""

    def __init__(self, recording: Recording, module: nn.Module, path: Path) -> None:
        self.recording = recording
        self.module = module
        self.path = path
        self.stock: Any = stock_class(module) if isinstance(module, Patched) else type(module)
        self.stand_in = StandIn(self)
        for cls in self.stock.__mro__:
            overridden = _MACHINERY & vars(cls).keys()
            if overridden and not cls.__module__.startswith("torch.nn.") and cls is not object:
                raise Unfusable(f"{cls.__name__} has its own {min(overridden)}")

    def child(self, name: str) -> StandIn:
        path = (*self.path, name)
        site = self.recording.sites.get(path)
        if site is None:
            module = self.module._modules[name]
            assert module is not None
            site = self.recording.sites[path] = Site(self.recording, module, path)
            self.recording.member(path, module)
        stand_in: StandIn = site.stand_in
        return stand_in

    # ---- Reading ---------------------------------------------------------------------------------

    def read(self, name: str) -> Any:
        module, own = self.module, vars(self.module)
        if name == "training":
            self.recording.whole(self.path)  # which holds outside training only
            return False
        if name == "_modules":
            self.recording.member(self.path, module).children = tuple(module._modules)
            if len(set(module._modules.values())) < len(module._modules):
                raise Unfusable("it goes over modules, of which two are one")
            return {key: self.child(key) for key in module._modules}
        for kind in (module._modules, module._parameters, module._buffers):
            if name in kind and kind[name] is None:
                self.recording.nothing.append((self.path, name))
                return None
        if name in module._modules:
            return self.child(name)
        if name in module._parameters or name in module._buffers:
            return self.recording.parameter(self.path, name)
        if name in own:
            value = own[name]
            self._need_constant(name, value)
            if isinstance(value, list):
                self.recording.attributes[self.path, name] = list(value)
                return self.recording.lend(name, value)
            self.recording.attributes[self.path, name] = value
            return value
        return self._inherited(name)

    def _inherited(self, name: str) -> Any:
        self.recording.attributes[self.path, name] = MISSING  # from the instance
        value = inspect.getattr_static(self.stock, name, MISSING)
        if value is MISSING:
            raise AttributeError(f"{self.stock.__name__} has no attribute {name}")
        if isinstance(value, FunctionType):
            return MethodType(_for_recording(value), self.stand_in)
        if isinstance(value, property) and isinstance(value.fget, FunctionType):
            return _for_recording(value.fget)(self.stand_in)
        if isinstance(value, staticmethod):
            return _for_recording(value.__func__)
        if isinstance(value, (list, classmethod)):
            raise Unfusable(f"it reads its class's {name}, a {type(value).__name__}")
        self._need_constant(name, value)
        self.recording.inherited[self.path, name] = value
        return value

    def _need_constant(self, name: str, value: Any) -> None:
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(part, (*_CONSTANTS, *_FUNCTIONS)):
                raise Unfusable(f"it reads its attribute {name}, of type {type(part).__name__}")
            watched = self.recording.has_foreign_code
            if isinstance(part, _FUNCTIONS) and not (watched or is_trusted_name(part.__module__)):
                raise Unfusable(f"it reads its attribute {name}, a function of other code's")

    # ---- Calling ---------------------------------------------------------------------------------

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of the module, or in its place what the module does."""
        module, recording = self.module, self.recording
        owner = forward_owner(module)
        is_kind = isinstance(module, Patched) and module.is_kind
        if has_hooks(module):
            recording.hooked.append(self.path)
        if has_hooks(module) or kwargs or len(args) != 1:
            return recording.call_module(self.path, args, kwargs, known=is_kind)
        if is_identity(owner):
            recording.whole(self.path)
            return args[0]
        if owner == "torch.nn.modules.container.Sequential":
            recording.whole(self.path)
            return self.run_forward(*args)
        if isinstance(module, (BatchNormAct, FrozenBatchNorm)):
            return self._normalize_and_act(args)
        if self._is_small():
            return self._inline(args)
        return recording.call_module(self.path, args, kwargs, known=is_kind)

    def run_forward(self, *args: Any) -> Any:
        return _for_recording(self.stock.forward)(self.stand_in, *args)

    def _normalize_and_act(self, args: tuple[Any, ...]) -> Any:
        recording = self.recording
        recording.whole(self.path)
        recording.member(self.path, self.module).children = tuple(self.module._modules)
        x = recording.call_module(self.path, args, {}, part=NORMALIZE, known=True)
        for name in ("drop", "act"):
            if name in self.module._modules:
                x = self.child(name)(x)
        return x

    def _is_small(self) -> bool:
        """Whether this is a block of known layers and nothing else."""
        if not (isinstance(self.module, Patched) and self.module.fuses):
            return False
        inner = list(self.module.modules())[1:]
        return len(inner) <= _SMALL and all(
            is_exact(forward_owner(m), m) or (isinstance(m, Patched) and m.is_kind) for m in inner
        )

    def _inline(self, args: tuple[Any, ...]) -> Any:
        before = self.recording.mark()
        try:
            result = self.run_forward(*args)
        except Exception:
            self.recording.back_to(before)
            return self.recording.call_module(self.path, args, {})
        self.recording.whole(self.path)
        return result


def _for_recording(function: Any) -> Any:
    """A function with an `isinstance` and a `type` that know proxies."""
    if not isinstance(function, FunctionType):
        raise Unfusable(f"it calls {getattr(function, '__name__', function)}")
    unseen = branches_unseen(function.__code__)
    if unseen is not None:
        raise Unfusable(unseen)
    own: dict[str, Any] = {"isinstance": is_instance, "type": type_of}
    if not own.keys() & set(function.__code__.co_names):
        return function
    own[ORIGINAL_GLOBALS] = function.__globals__
    made = FunctionType(
        function.__code__,
        {**function.__globals__, **own},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class StandIn:
    """All that code sees of a Site."""

    __slots__ = ("_site",)

    def __init__(self, site: Site) -> None:
        object.__setattr__(self, "_site", site)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return object.__getattribute__(self, "_site").stock

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        return object.__getattribute__(self, "_site").read(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Unfusable(f"it sets its attribute {name}")

    def __delattr__(self, name: str) -> None:
        raise Unfusable(f"it deletes its attribute {name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_site").call(args, kwargs)

    # Containers.

    def __iter__(self) -> Iterator[Any]:
        items = _items(self)
        return iter(items if issubclass(_stock(self), nn.ModuleDict) else items.values())

    def __bool__(self) -> bool:
        return len(self) > 0 if issubclass(_stock(self), _CONTAINERS) else True

    def __len__(self) -> int:
        return len(_items(self))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            raise Unfusable("it takes a slice of a container")
        return _items(self)[key] if isinstance(key, str) else list(_items(self).values())[key]

    def __contains__(self, key: str) -> bool:
        return key in _items(self)


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _stock(stand_in: StandIn) -> Any:
    return object.__getattribute__(stand_in, "_site").stock


def _items(container: StandIn) -> dict[str, Any]:
    if not issubclass(_stock(container), _CONTAINERS):
        raise TypeError(f"{_stock(container).__name__} is no container")
    items: dict[str, Any] = container._modules
    return items
