"""A patched module's class: bninv's mixin before the module's own class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.parametrize import is_parametrized

from bninv._arguments import Precision, need_tensor
from bninv._memory_format import is_in_order, panel_order
from bninv._protection import step_in, step_out
from bninv.modules.conversion import Unconvertible
from bninv.modules.entry import guarded, layer_call

# For which every operator has kernels, on the CPU and on CUDA alike.
FLOATING = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


class Patched(Unconvertible):
    """Base of the mixins.

    In training mode, with gradients enabled, a patched module does what the stock one does. Without
    gradients one whose forward is the same in both modes is covered in both.
    """

    # Whether this stands for one known forward, in place of which bninv has its own.
    is_kind: ClassVar[bool] = True
    # Whether calls in the module's own code may be run as one.
    fuses: ClassVar[bool] = False

    # Parameters that the kernels read in place when they are laid out as a panel.
    panel_parameters: ClassVar[tuple[str, ...]] = ()
    # Set by patched_class: what the module was before, and its forward then.
    _stock_class: ClassVar[type]
    _stock_forward: ClassVar[Any]
    _mixin: ClassVar[type[Patched]]

    # Set by patch, shared by a model's modules: how calls are caught, and what becomes of the rest.
    _bninv_policy: Any = None
    new_policy: ClassVar[Callable[[], Any]]  # set where policies are defined

    # Set on the instance by lay_out: the strides that unpatch gives back.
    _bninv_strides: dict[str, tuple[int, ...]]

    # Users' classes may register what is derived from them: a patched class is no such thing.
    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        """Why this module cannot be patched, or None."""
        return None

    def invariant_forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def differs_in_training(self) -> bool:
        """Whether the forward is another one in training mode."""
        return False

    def is_changed(self) -> bool:
        """Whether the stock class's forward was replaced since the module was patched."""
        cls: Any = type(self)
        return cls._stock_class.forward is not cls._stock_forward

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        """What the class of a patched `stock` module defines beside this mixin's attributes."""
        return {"__call__": layer_call(stock)}

    def _get_name(self) -> str:
        # What `print(model)` shows; `__name__` is the stock class's, which others go by.
        return f"Bninv{stock_class(self).__name__}"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        training = self.training  # type: ignore[attr-defined]
        if (
            training and (torch.is_grad_enabled() or self.differs_in_training())
        ) or self.is_changed():
            return guarded(self, super().forward, *args, **kwargs)  # type: ignore[misc]
        # What follows is bninv's own: no functional call in it is to be caught.
        protection = step_out()
        try:
            first = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(first, Proxy):
                return _leaf(first.tracer, self, args, kwargs)
            need_tensor("input", first)
            return self.invariant_forward(*args, **kwargs)
        finally:
            step_in(protection)

    def panel_order(self, parameter: Tensor) -> tuple[int, ...]:
        """A panel parameter's dimensions, the slowest first, as the kernels read it."""
        return panel_order(parameter)

    def lay_out(self) -> None:
        """Store the panel parameters as panels, remembering their strides."""
        for name in self.panel_parameters:
            parameter = self._parameters.get(name)  # type: ignore[attr-defined]
            if parameter is None or not _owns_its_memory(parameter):
                continue
            order = self.panel_order(parameter)
            if is_in_order(parameter, order):
                continue
            strides = parameter.stride()
            _set_order(parameter, order)
            self.__dict__.setdefault("_bninv_strides", {})[name] = strides

    def restore_layout(self) -> None:
        """Undo `lay_out`; a parameter that was replaced since keeps its own strides."""
        for name, strides in self.__dict__.pop("_bninv_strides", {}).items():
            parameter = self._parameters.get(name)  # type: ignore[attr-defined]
            if parameter is not None and is_in_order(parameter, self.panel_order(parameter)):
                _set_strides(parameter, strides)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class was made at run time: pickle the stock class and make it again.
        reduced = super().__reduce_ex__(max(int(protocol), 2))
        return (_new_patched, (stock_class(self), type(self)._mixin), *reduced[2:])


def precision_of(module: Any) -> Precision:
    """What `patch` was told of the products in a module's model."""
    policy = module._bninv_policy
    return "ieee" if policy is None else policy.precision


def parameter_of(module: Any, name: str) -> Any:
    """`getattr(module, name)` without nn.Module's `__getattr__`, which takes a microsecond: what is
    registered is found where that looks, all else (a weight that a parametrization makes) by name.
    """
    found = module._parameters.get(name)
    if found is None:
        found = module._buffers.get(name)
    return getattr(module, name) if found is None else found


def _new_patched(stock: type, mixin: type[Patched]) -> Any:
    cls: Any = patched_class(mixin, stock)
    return cls.__new__(cls)


def _leaf(tracer: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A patched module stays one call in a graph that torch.fx traces."""
    return tracer.create_proxy("call_module", tracer.path_of_module(module), args, kwargs)


_classes: dict[tuple[type, type], type] = {}


def patched_class(mixin: type[Patched], stock: type) -> type:
    """The class of a patched module: `mixin` before `stock`, made once for each pair."""
    members = {
        "_stock_class": stock,
        "_stock_forward": stock.forward,  # type: ignore[attr-defined]
        "_mixin": mixin,
        "__doc__": stock.__doc__,
        "__qualname__": stock.__qualname__,
        # torch.fx takes modules of torch.nn as leaves, by this name: a patched module then stays
        # one call in a traced graph, and keeps its promise there.
        "__module__": stock.__module__,
        **mixin.members(stock),
    }
    made = type(stock.__name__, (mixin, stock), members)
    return _classes.setdefault((mixin, stock), made)


def set_class(module: Any, mixin: type[Patched]) -> None:
    """Make a module one of the patched class of its own."""
    cls = type(module)
    if _is_injected(module):
        inner = patched_class(mixin, cls.__bases__[0])
        module.__class__ = _derived_again(cls, inner)
    else:
        module.__class__ = patched_class(mixin, cls)


def reset_class(module: Any) -> None:
    """Undo `set_class`."""
    cls = type(module)
    stock = stock_class(module)
    module.__class__ = _derived_again(cls, stock) if _is_injected(module) else stock


def _is_injected(module: Any) -> bool:
    """Whether a module's class was made for it alone by torch.nn.utils.parametrize.

    Such a class is derived from the module's own, before or after patching, and goes when the
    parametrizations go.
    """
    cls = type(module)
    return "_stock_class" not in vars(cls) and is_parametrized(module) and len(cls.__bases__) == 1


def _derived_again(cls: type, base: type) -> type:
    members = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(f"Parametrized{base.__name__}", (base,), members)


def stock_class(module: Any) -> type:
    """The class a patched module had before."""
    stock: type = type(module)._stock_class
    return stock


def forward_owner(module: Any) -> str:
    """The qualified name of the class that defines a module's forward, patched or not."""
    stock = stock_class(module) if isinstance(module, Patched) else type(module)
    for cls in stock.__mro__:
        if "forward" in vars(cls):
            return f"{cls.__module__}.{cls.__qualname__}"
    return ""


def drop_and_act(module: Any, x: Tensor) -> Tensor:
    """What timm's normalizations with an activation end with: submodules, patched on their own.

    One that has been put there since is protected as below any other module.
    """
    for name in ("drop", "act"):
        inner: Any = module._modules.get(name)
        if inner is None or type(inner) is nn.Identity:
            continue
        known = isinstance(inner, Patched)
        x = inner(x) if known else guarded(module, inner, x)
    return x


def _owns_its_memory(parameter: Tensor) -> bool:
    """Whether nobody else looks at the parameter's memory through a storage shared with it."""
    if parameter.layout != torch.strided:
        return False
    storage = parameter.untyped_storage()
    return storage.nbytes() == parameter.numel() * parameter.element_size()


def _set_order(parameter: Tensor, order: tuple[int, ...]) -> None:
    """Move a parameter's values to dense memory, the first dimension of `order` the slowest."""
    with _changing(parameter):
        inverse = [order.index(d) for d in range(parameter.dim())]
        parameter.data = parameter.data.permute(order).contiguous().permute(inverse)


def _set_strides(parameter: Tensor, strides: tuple[int, ...]) -> None:
    with _changing(parameter):
        data = parameter.data
        moved = torch.empty_strided(data.shape, strides, dtype=data.dtype, device=data.device)
        parameter.data = moved.copy_(data)


def _changing(parameter: Tensor) -> Any:
    # A parameter made under inference_mode can only be changed under it.
    return torch.inference_mode() if parameter.is_inference() else torch.no_grad()
