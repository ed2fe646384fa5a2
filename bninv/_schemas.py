"""Operator schemas, fake kernels and gradients: what an operator needs before anything is compiled.

Importing this module defines `torch.ops.bninv.*`. The implementations come from C++ when they are
first needed: until then a stand-in at the dispatcher's lowest key loads the extension and calls
again, so that an exported program that is loaded in a fresh process finds its operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import explain_tensors, same_device
from bninv._memory_format import (
    is_channels_last,
    is_channels_last_order,
    is_dense,
    is_panel,
)

# Of one tensor, without further arguments.
UNARY = (
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "hardswish",
    "hardsigmoid",
    "tanh",
    "sqrt",
    "rsqrt",
)

SCHEMAS = {
    "batch_norm": "(Tensor input, Tensor running_mean, Tensor running_var, Tensor? weight, "
    "Tensor? bias, float eps, Tensor? residual=None, str activation='none', "
    "float negative_slope=0.01) -> Tensor",
    "layer_norm": "(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, float eps) "
    "-> Tensor",
    "rms_norm": "(Tensor input, int[] normalized_shape, Tensor? weight, float eps) -> Tensor",
    "group_norm": "(Tensor input, int num_groups, Tensor? weight, Tensor? bias, float eps) "
    "-> Tensor",
    "instance_norm": "(Tensor input, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    "softmax": "(Tensor input, int dim) -> Tensor",
    "log_softmax": "(Tensor input, int dim) -> Tensor",
    "conv2d": "(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] dilation, int groups, str precision='ieee') -> Tensor",
    # A product and what follows it, each step rounded as the separate operators round.
    "conv2d_fused": "(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] dilation, int groups, Tensor? running_mean, Tensor? running_var, Tensor? norm_weight, "
    "Tensor? norm_bias, float eps, Tensor? residual=None, str activation='none', "
    "float negative_slope=0.01, str precision='ieee') -> Tensor",
    "linear": "(Tensor input, Tensor weight, Tensor? bias, str precision='ieee') -> Tensor",
    "linear_fused": "(Tensor input, Tensor weight, Tensor? bias, Tensor? residual=None, "
    "str activation='none', float negative_slope=0.01, str precision='ieee') -> Tensor",
    "avg_pool2d": "(Tensor input, int[] kernel_size, int[] stride, int[] padding, "
    "bool ceil_mode, bool count_include_pad, int? divisor_override) -> Tensor",
    "max_pool2d": "(Tensor input, int[] kernel_size, int[] stride, int[] padding, "
    "int[] dilation, bool ceil_mode) -> Tensor",
    "adaptive_avg_pool2d": "(Tensor input, int[] output_size) -> Tensor",
    "adaptive_max_pool2d": "(Tensor input, int[] output_size) -> Tensor",
    "sum": "(Tensor input, int[] dim, bool keepdim) -> Tensor",
    "mean": "(Tensor input, int[] dim, bool keepdim) -> Tensor",
    **dict.fromkeys(UNARY, "(Tensor input) -> Tensor"),
    "gelu": "(Tensor input, str approximate) -> Tensor",
    "leaky_relu": "(Tensor input, float negative_slope) -> Tensor",
}
# The elementwise operators also exist in place, under the name with an underscore.
IN_PLACE = {
    f"{name}_": SCHEMAS[name]
    .replace("Tensor input", "Tensor(a!) input")
    .replace("-> Tensor", "-> ()")
    for name in (*UNARY, "gelu", "leaky_relu")
}
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


# ---- Shapes and strides of the results -----------------------------------------------------------


def _empty_like(input: Tensor) -> Tensor:
    if is_dense(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)


def _empty_2d(input: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=memory_format)


def _fake_batch_norm(input: Tensor, *_: Any) -> Tensor:
    if input.stride(1) == 1 and is_dense(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)


def _fake_contiguous(input: Tensor, *_: Any) -> Tensor:
    return input.new_empty(input.shape)


def _fake_keeps_channels_last(input: Tensor, *_: Any) -> Tensor:
    if not input.is_contiguous() and is_channels_last_order(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)


def _fake_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *_: Any,
) -> Tensor:
    size = [
        (input.size(i + 2) + 2 * padding[i] - dilation[i] * (weight.size(i + 2) - 1) - 1)
        // stride[i]
        + 1
        for i in range(2)
    ]
    channels_last = (
        is_channels_last(input)
        or is_channels_last(weight)
        or (is_panel(weight) and not weight.is_contiguous())
    )
    return _empty_2d(input, [input.size(0), weight.size(0), *size], channels_last)


def _fake_linear(input: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    return input.new_empty([*input.shape[:-1], weight.size(0)])


def _pool_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def _fake_pool(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    size = [
        _pool_size(input.size(i + 2), kernel_size[i], stride[i], padding[i], dilation[i], ceil_mode)
        for i in range(2)
    ]
    return _empty_2d(input, [*input.shape[:2], *size], is_channels_last(input))


def _fake_avg_pool2d(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    *_: Any,
) -> Tensor:
    return _fake_pool(input, kernel_size, stride, padding, (1, 1), ceil_mode)


def _fake_adaptive_pool2d(input: Tensor, output_size: Sequence[int]) -> Tensor:
    return _empty_2d(input, [*input.shape[:2], *output_size], is_channels_last(input))


def _fake_reduce(input: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    reduced = {d % max(input.dim(), 1) for d in dim} or set(range(input.dim()))
    shape = [
        1 if d in reduced else size
        for d, size in enumerate(input.shape)
        if keepdim or d not in reduced
    ]
    return input.new_empty(shape)


def _fake_unary(input: Tensor, *_: Any) -> Tensor:
    return _empty_like(input)


_FAKES: dict[str, Callable[..., Tensor]] = {
    "batch_norm": _fake_batch_norm,
    **dict.fromkeys(("layer_norm", "softmax", "log_softmax"), _fake_contiguous),
    **dict.fromkeys(("rms_norm", "group_norm", "instance_norm"), _fake_keeps_channels_last),
    **dict.fromkeys(("conv2d", "conv2d_fused"), _fake_conv2d),
    **dict.fromkeys(("linear", "linear_fused"), _fake_linear),
    "avg_pool2d": _fake_avg_pool2d,
    "max_pool2d": _fake_pool,
    "adaptive_avg_pool2d": _fake_adaptive_pool2d,
    "adaptive_max_pool2d": _fake_adaptive_pool2d,
    "sum": _fake_reduce,
    "mean": _fake_reduce,
    **dict.fromkeys((*UNARY, "gelu", "leaky_relu"), _fake_unary),
}


# ---- First use -----------------------------------------------------------------------------------


def _stand_in(name: str) -> Callable[..., Any]:
    """What runs while no implementation is registered: load the extension, then call again."""

    def load_and_call(*args: Any) -> Any:
        from bninv.building import extension as _extension

        op = getattr(torch.ops.bninv, name).default
        if _extension.is_loaded():
            # The implementation's key comes before this one: being here means there is none.
            explain_tensors(op, args)
            devices = sorted({arg.device.type for arg in args if isinstance(arg, Tensor)})
            kernels = [
                device
                for device in ("cpu", "cuda")
                if torch._C._dispatch_has_kernel_for_dispatch_key(f"bninv::{name}", device.upper())
            ]
            without = "" if _extension.has_cuda() else " (bninv was compiled without CUDA here)"
            raise NotImplementedError(
                f"bninv.{name}: the tensors are on {', '.join(devices)}; this operator has a "
                f"kernel for: {', '.join(kernels)}{without}"
            )
        _extension.load()
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
    raise NotImplementedError(
        f"bninv.{name} has no backward yet: the forward of a patched model obeys the contract, "
        "gradients do not exist. Run under torch.no_grad() or torch.inference_mode(), call "
        "model.train() (a patched module in training mode is the stock one), or "
        "bninv.unpatch(model)."
    )


def _fake_backward_missing(grad: Tensor, shape: Sequence[int], name: str) -> Tensor:
    return grad.new_empty(shape)


def _with_one_device(name: str, fake: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A fake kernel that refuses tensors on several devices, as the real one does."""
    op = getattr(torch.ops.bninv, name).default
    names = [argument.name for argument in op._schema.arguments]

    def checked(*args: Any) -> Tensor:
        same_device([(n, a) for n, a in zip(names, args, strict=False) if isinstance(a, Tensor)])
        return fake(*args)

    return checked


def _define() -> None:
    for name, schema in FACTS.items():
        _library.define(name + schema)
    for name, schema in {**SCHEMAS, **IN_PLACE}.items():
        _library.define(name + schema)
        _library.impl(name, _stand_in(name), "CompositeExplicitAutograd")
    for name, fake in _FAKES.items():
        torch.library.register_fake(f"bninv::{name}", _with_one_device(name, fake), lib=_library)
        torch.library.register_autograd(
            f"bninv::{name}",
            _missing_backward(name),
            setup_context=_setup_context,
            lib=_library,
        )
    for name in IN_PLACE:
        torch.library.register_fake(f"bninv::{name}", lambda input, *_: None, lib=_library)
    _library.define("_backward_missing(Tensor grad, SymInt[] shape, str name) -> Tensor")
    _library.impl("_backward_missing", _raise_backward_missing, "CompositeExplicitAutograd")
    torch.library.register_fake("bninv::_backward_missing", _fake_backward_missing, lib=_library)


_define()
