"""What is said of an operator before anything is compiled, and its definition in PyTorch.

`define` makes `torch.ops.bninv.*` of that. The implementations come from C++ when they are first
needed: until then a stand-in at the dispatcher's lowest key loads the extension and calls again, so
that an exported program that is loaded in a fresh process finds its operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import explain_tensors, same_device
from bninv._autocast import name_operator
from bninv._conversion import is_onnx_exporting, refuse_onnx
from bninv.operators.draw import Draw
from bninv.operators.transforms import NO_DERIVATIVE, register_vmap


@dataclass(frozen=True)
class Operator:
    """One operator of `torch.ops.bninv`."""

    name: str
    schema: str
    fake: Callable[..., Tensor]  # a result of the right shape, strides and dtype
    draw: Callable[[Draw], list[Any]]  # the arguments of a random call, awkward ones mostly
    in_place: bool = False  # whether it also exists in place, under the name with an underscore

    @property
    def schema_in_place(self) -> str:
        schema = self.schema.replace("Tensor input", "Tensor(a!) input")
        return schema.replace("-> Tensor", "-> ()")


# What may follow an operator in its kernel: the last arguments of its schema.
EPILOGUE = "Tensor? residual=None, str activation='none', float negative_slope=0.01"

FACTS = {
    "_cpu_capability": "() -> str",
    "_cpu_capabilities": "() -> str",
    "_set_cpu_capability": "(str name) -> ()",
    "_emulated_arithmetic": "() -> str",
    "_set_emulated_arithmetic": "(str name) -> ()",
    "_set_cuda_plan": "(int tile, int segments_per_block) -> ()",
    "_cuda_tiles": "() -> int",
}

# The library object keeps the definitions alive.
_library = torch.library.Library("bninv", "DEF")


# ---- First use -----------------------------------------------------------------------------------


def _stand_in(name: str) -> Callable[..., Any]:
    """What runs while no implementation is registered: load the extension, then call again."""

    def load_and_call(*args: Any) -> Any:
        from bninv.building import extension

        op = getattr(torch.ops.bninv, name).default
        if extension.is_loaded():
            # The implementation's key comes before this one: being here means there is none.
            explain_tensors(op, args)
            devices = sorted({arg.device.type for arg in args if isinstance(arg, Tensor)})
            kernels = [
                device
                for device in ("cpu", "cuda")
                if _torch.has_kernel(f"bninv::{name}", device.upper())
            ]
            without = "" if extension.has_cuda() else " (bninv was compiled without CUDA here)"
            raise NotImplementedError(
                f"bninv.{name}: the tensors are on {', '.join(devices)}; this operator has a "
                f"kernel for: {', '.join(kernels)}{without}"
            )
        extension.load()
        return op(*args)

    return load_and_call


# ---- Gradients: the forward obeys the contract, a backward does not exist yet --------------------


def _missing_backward(name: str) -> Callable[..., Any]:
    def backward(ctx: Any, grad: Tensor) -> Any:
        return tuple(
            None if shape is None else torch.ops.bninv._backward_missing(grad, shape, name)
            for shape in ctx.shapes
        )

    return backward


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    # Under a compiler the shapes of the gradients are all that the backward graph needs.
    ctx.shapes = [
        list(arg.shape) if isinstance(arg, Tensor) and arg.is_floating_point() else None
        for arg in inputs
    ]


def _raise_backward_missing(grad: Tensor, shape: Sequence[int], name: str) -> Tensor:
    raise NotImplementedError(f"bninv.{name} has no backward yet: {NO_DERIVATIVE}")


def _fake_backward_missing(grad: Tensor, shape: Sequence[int], name: str) -> Tensor:
    return grad.new_empty(shape)


# ---- Definition ----------------------------------------------------------------------------------


def _checked(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """A fake kernel that refuses tensors on several devices, as the real one does, and a conversion
    to ONNX, which runs it however it came to the operator.
    """
    op = getattr(torch.ops.bninv, name).default
    names = [argument.name for argument in op._schema.arguments]

    def checked(*args: Any) -> Any:
        if is_onnx_exporting():
            refuse_onnx(name)
        same_device([(n, a) for n, a in zip(names, args, strict=False) if isinstance(a, Tensor)])
        return fake(*args)

    return checked


def _known(name: str) -> None:
    """Tell vmap and autocast of an operator that has been defined."""
    op = getattr(torch.ops.bninv, name).default
    register_vmap(op, _library)
    name_operator(op, name)


def define(operators: Iterable[Operator]) -> None:
    """Define `torch.ops.bninv.*`, once in a process."""
    for name, schema in FACTS.items():
        _library.define(name + schema)
    for op in operators:
        _library.define(op.name + op.schema)
        _library.impl(op.name, _stand_in(op.name), "CompositeExplicitAutograd")
        fake = _checked(op.name, op.fake)
        torch.library.register_fake(f"bninv::{op.name}", fake, lib=_library)
        torch.library.register_autograd(
            f"bninv::{op.name}",
            _missing_backward(op.name),
            setup_context=_setup_context,
            lib=_library,
        )
        _known(op.name)
        if op.in_place:
            name = f"{op.name}_"
            _library.define(name + op.schema_in_place)
            _library.impl(name, _stand_in(name), "CompositeExplicitAutograd")
            fake = _checked(name, lambda input, *_: None)
            torch.library.register_fake(f"bninv::{name}", fake, lib=_library)
            _known(name)
    _library.define("_backward_missing(Tensor grad, SymInt[] shape, str name) -> Tensor")
    _library.impl("_backward_missing", _raise_backward_missing, "CompositeExplicitAutograd")
    torch.library.register_fake("bninv::_backward_missing", _fake_backward_missing, lib=_library)
