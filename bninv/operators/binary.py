"""Elementwise functions of two tensors: rule R6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import need_tensor, promoted
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator

Function = Callable[[Tensor, Any], Tensor]


def _fake(input: Tensor, other: Tensor) -> Tensor:
    # Strides as an elementwise operator of PyTorch's gives them.
    return torch.add(input, other)


def _draw(draw: Draw) -> list[Any]:
    shape = draw.shape(draw.random.randint(1, 4))
    other = draw.input(*shape)
    if draw.random.random() < 0.3:
        other = draw.input(1).view([1] * len(shape)).expand(shape)
    return [draw.input(*shape), other]


def _binary(name: str, input: Tensor, other: Any, argument: str = "other") -> Tensor:
    need_tensor("input", input)
    if isinstance(other, (int, float)):
        # In the arithmetic type, which holds the number better than a narrow one.
        wide = _wide(input)
        number = torch.full((), other, dtype=wide.dtype, device=wide.device)
        result = call(getattr(ops, name).default, wide, number.expand(wide.shape))
        return result if wide is input else _narrowed(result, wide.dtype, input.dtype)
    need_tensor(argument, other)
    if input.shape != other.shape:
        try:
            input, other = torch.broadcast_tensors(input, other)
        except RuntimeError:
            raise ValueError(
                f"`{argument}` has shape {list(other.shape)}; it may be one that broadcasts with "
                f"`input`'s, {list(input.shape)}"
            ) from None
    return call(getattr(ops, name).default, input, other)


def _wide(tensor: Tensor) -> Tensor:
    """In the arithmetic type; what is no floating-point tensor stays for the operator to refuse."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _narrowed(result: Tensor, computed: torch.dtype, dtype: torch.dtype) -> Tensor:
    # Autocast may have chosen another dtype than either.
    return result.to(dtype) if result.dtype == computed else result


def pow(input: Tensor, exponent: Tensor | float) -> Tensor:
    """`input^exponent` within 2 ulp, with the special values of C's `pow`; see docs/functions.md.

    Args:
        exponent: a number, or a tensor of `input`'s dtype that broadcasts with it.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return _binary("pow", input, exponent, "exponent")


def atan2(input: Tensor, other: Tensor | float) -> Tensor:
    """The angle of the point (other, input), from -pi to pi, within 2 ulp."""
    return _binary("atan2", input, other)


def hypot(input: Tensor, other: Tensor | float) -> Tensor:
    """`sqrt(input^2 + other^2)` within 2 ulp, without overflow on the way."""
    return _binary("hypot", input, other)


def fmod(input: Tensor, other: Tensor | float) -> Tensor:
    """What a division cut toward zero leaves: exact, with the sign of `input`."""
    return _binary("fmod", input, other)


def remainder(input: Tensor, other: Tensor | float) -> Tensor:
    """`fmod`, and `other` added where its sign is another: Python's `%`."""
    return _binary("remainder", input, other)


def floor_divide(input: Tensor, other: Tensor | float) -> Tensor:
    """The quotient rounded down: Python's `//`. The exact expression is in docs/functions.md."""
    return _binary("floor_divide", input, other)


def trunc_divide(input: Tensor, other: Tensor | float) -> Tensor:
    """`trunc(input / other)`."""
    return _binary("trunc_divide", input, other)


# ---- PyTorch's functions: they promote -----------------------------------------------------------


def result_dtype(input: Any, other: Any) -> torch.dtype:
    """torch.result_type, which Dynamo does not take in a whole graph."""
    # Numbers, tensors without dimensions, tensors: the latter decide within their category.
    found: list[torch.dtype | None] = [None, None, None]
    for value in (input, other):
        if isinstance(value, Tensor):
            place, dtype = (2 if value.dim() > 0 else 1), value.dtype
        elif isinstance(value, float):
            place, dtype = 0, torch.get_default_dtype()
        else:
            place, dtype = 0, torch.bool if isinstance(value, bool) else torch.int64
        before = found[place]
        found[place] = dtype if before is None else promoted(before, dtype)
    numbers, scalars, tensors = found
    result = scalars if numbers is None or _outranks(scalars, numbers) else numbers
    result = tensors if result is None or _outranks(tensors, result) else result
    assert result is not None
    return result


def _outranks(dtype: torch.dtype | None, other: torch.dtype) -> bool:
    return dtype is not None and _category(dtype) >= _category(other)


def _category(dtype: torch.dtype) -> int:
    if dtype.is_floating_point or dtype.is_complex:
        return 3 if dtype.is_complex else 2
    return int(dtype is not torch.bool)


def of_floats(function: Function) -> Adapter:
    """A function under PyTorch's signature: its operands are promoted, and either may be a number.

    What is not of the result's dtype is converted to the arithmetic type, in which the call then
    is; its result is rounded once. Of integers PyTorch's own operators are exact.
    """

    def adapter(input: Any, other: Any) -> Tensor:
        dtype = _promoted(input, other)
        if all(isinstance(value, Tensor) and value.dtype == dtype for value in (input, other)):
            return function(*_beside(input, other))
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        device = _device(input, other)
        result = function(*(_converted(value, wide, device) for value in (input, other)))
        return _narrowed(result, wide, dtype) if wide != dtype else result

    return adapter


def in_place(function: Function) -> Adapter:
    """The same into `input`, whose dtype the result has."""
    adapter = of_floats(function)

    def into(input: Tensor, other: Any) -> Tensor:
        need(_promoted(input, other) == input.dtype)
        return input.copy_(adapter(input, other))

    return into


def of_number(function: Function) -> Adapter:
    """`number / tensor`, whose method is the tensor's."""
    adapter = of_floats(function)
    return lambda input, other: adapter(other, input)


def _promoted(input: Any, other: Any) -> torch.dtype:
    need(all(isinstance(value, (Tensor, int, float)) for value in (input, other)))
    need(any(isinstance(value, Tensor) for value in (input, other)))
    dtype = result_dtype(input, other)
    need(dtype.is_floating_point)
    return dtype


def _device(*values: Any) -> torch.device:
    """Where the result is: a tensor without dimensions counts as a number beside others."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return next((t.device for t in tensors if t.dim() > 0), tensors[0].device)


def _beside(input: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if input.device == other.device:
        return input, other
    device = _device(input, other)
    return input.to(device), other.to(device)


def _converted(value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.full((), value, dtype=dtype, device=device)
    return value.to(dtype=dtype, device=device if value.dim() == 0 else None)


# ---- The room ------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Function] = {
    function.__name__: function
    for function in (pow, atan2, hypot, fmod, remainder, floor_divide, trunc_divide)
}
OPERATORS = [
    Operator(
        name,
        f"(Tensor input, Tensor {'exponent' if name == 'pow' else 'other'}) -> Tensor",
        _fake,
        _draw,
    )
    for name in _FUNCTIONS
]
# pow and div are in dispatch/composed.py: some exponents are products.
ATEN: dict[str, Adapter] = {
    name + suffix: adapter(_FUNCTIONS[name])
    for name in ("atan2", "hypot", "fmod", "remainder", "floor_divide")
    for suffix, adapter in (("", of_floats), ("_", in_place))
}
PYTHON: dict[str, Adapter] = {}
# Methods of a number's divisor.
REVERSED: dict[str, Adapter] = {
    name: of_number(_FUNCTIONS[name]) for name in ("floor_divide", "remainder")
}

__all__ = list(_FUNCTIONS)
