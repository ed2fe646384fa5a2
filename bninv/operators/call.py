"""How a function calls its operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bninv import _torch
from bninv._arguments import explain_tensors, explain_value, need_tensor
from bninv._autocast import cast, cast_operator, without
from bninv._conversion import explain_traced, is_onnx_exporting, refuse_onnx
from bninv._shown import shown
from bninv.operators.transforms import refuse_functional_gradient, refuse_tangents

ops = torch.ops.bninv


def call(op: Any, input: Tensor, *args: Any) -> Any:
    """Call an operator, leaving autograd out where nothing asks for it.

    Under autocast its arguments are cast as those of its stock namesake. The gradient's
    registration is a Python kernel; passing it by saves microseconds a call. A compiler and other
    tensor subclasses see the plain call.
    """
    try:
        if _torch.any_autocast():
            input, args = cast_operator(op, input, args)
        if torch.compiler.is_compiling():
            return op(input, *args)
        if _torch.tracing_state() is not None:
            _trace(op)
        elif forward_ad._current_level >= 0:
            refuse_tangents(_name(op), (input, *args))
        elif torch.is_grad_enabled():
            return op(input, *args)
        elif torch.is_inference_mode_enabled():  # below autograd already
            return op._op(input, *args)
        with _torch.below_autograd():
            return op._op(input, *args)
    except (AttributeError, RuntimeError, TypeError) as error:
        # Dynamo comes here too, for an error of a fake kernel, and cannot trace what follows.
        if not torch.compiler.is_dynamo_compiling():
            explain_tensors(op, (input, *args))
            refuse_functional_gradient(_name(op), (input, *args))
            explain_value(op, (input, *args), error)
        raise


def _trace(op: Any) -> None:
    """What the TorchScript exporter of ONNX is to say of an operator that torch.jit.trace sees."""
    if is_onnx_exporting():
        refuse_onnx(_name(op))
    explain_traced(_name(op))


def _name(op: Any) -> str:
    return op._schema.name.rpartition(":")[2]


def call_converted(op: Any, input: Tensor, dtype: torch.dtype | None, *args: Any) -> Any:
    """`call` for a function whose caller may name the dtype that the input is converted to first.

    Under autocast that dtype holds: its policies for such functions leave it alone.
    """
    need_tensor("input", input)
    if dtype is None:
        return call(op, input, *args)
    input = converted(input, dtype)
    with without(input.device.type):
        return call(op, input, *args)


def converted(input: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The input in another dtype.

    Raises:
        TypeError: `dtype` is no torch.dtype.
    """
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"`dtype` is {shown(dtype)}; it may be a torch.dtype or None")
    return input if dtype is None else input.to(dtype)


def cast_tensors(name: str, *tensors: Tensor) -> tuple[Any, ...]:
    """The tensors of a function made of several operators, as autocast would cast them for ATen's
    operator of this name.
    """
    if not _torch.any_autocast():
        return tensors
    return cast(name, tensors, {})[0]
