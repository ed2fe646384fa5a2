"""Functions that become several exact operations, in one fixed order."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import integers, promoted
from bninv.operators import binary
from bninv.operators.adapters import Adapter, need
from bninv.operators.unary import rsqrt, sqrt


def _wide(input: Tensor) -> Tensor:
    """In the arithmetic type."""
    return input if input.dtype in (torch.float32, torch.float64) else input.float()


def _cube(input: Tensor) -> Tensor:
    # In half precision each product would round; so it rounds once.
    wide = _wide(input)
    return ((wide * wide) * wide).to(input.dtype)


# Powers by a number that are a few operations: which ones follows from the exponent alone.
_POWERS: dict[float, Adapter] = {
    2: lambda x: x * x,
    1: torch.clone,
    3: _cube,
    0.5: sqrt,
    -0.5: rsqrt,
    -1: torch.reciprocal,
}


def power(input: Any, exponent: Any) -> Tensor:
    fits = isinstance(input, Tensor) and input.is_floating_point()
    if fits and isinstance(exponent, (int, float)) and exponent in _POWERS:
        return _POWERS[exponent](input)
    return binary.of_floats(binary.pow)(input, exponent)


def power_(input: Tensor, exponent: Any) -> Tensor:
    if isinstance(exponent, (int, float)) and exponent in _POWERS and input.is_floating_point():
        return input.mul_(input) if exponent == 2 else input.copy_(_POWERS[exponent](input))
    return binary.in_place(binary.pow)(input, exponent)


def power_of(exponent: Tensor, input: Any) -> Tensor:
    """`input ** exponent`, whose operator is the exponent's."""
    return power(input, exponent)


def float_power(input: Any, exponent: Any) -> Tensor:
    base, exponent = (v.double() if isinstance(v, Tensor) else v for v in (input, exponent))
    return power(base, exponent)


def square(input: Tensor) -> Tensor:
    return input * input


def square_(input: Tensor) -> Tensor:
    return input.mul_(input)


def divide(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        need(rounding_mode in _DIVISIONS)
        return binary.of_floats(_DIVISIONS[rounding_mode])(input, other)
    if any(isinstance(v, Tensor) and not v.is_floating_point() for v in (input, other)):
        return _quotient_of_integers(input, other)
    # CUDA multiplies by the reciprocal of a number; by a tensor on the device it divides. In half
    # precision the CPU rounds the number to binary32, divides, and rounds once: so does this.
    number = isinstance(other, (int, float)) and not isinstance(other, bool)
    need(number and rounding_mode is None and input.device.type == "cuda")
    wide = _wide(input)
    return (wide / wide.new_full((), other)).to(input.dtype)


def _quotient_of_integers(input: Tensor, other: Any) -> Tensor:
    """Each is converted to the result's dtype, rounded once, and divided."""
    if not binary.result_dtype(input, other).is_floating_point:
        input = input.to(torch.get_default_dtype())
    return binary.of_floats(operator.truediv)(input, other)


_DIVISIONS = {"floor": binary.floor_divide, "trunc": binary.trunc_divide}


def divide_(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        need(rounding_mode in _DIVISIONS)
        return binary.in_place(_DIVISIONS[rounding_mode])(input, other)
    return input.copy_(divide(input, other, rounding_mode=rounding_mode))


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    # Products and the sum rounded each by itself; a backend's own kernel may contract them.
    (input, tensor1, tensor2), dtype = _in_one_dtype(input, tensor1, tensor2)
    return (input + _times(tensor1, value) * tensor2).to(dtype)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    (input, tensor1, tensor2), dtype = _in_one_dtype(input, tensor1, tensor2)
    return (input + _times(tensor1, value) / tensor2).to(dtype)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """PyTorch's formula, from the nearer end."""
    if not isinstance(weight, Tensor):
        need(isinstance(weight, (int, float)))
        weight = torch.full((), weight, dtype=_wide(input).dtype, device=input.device)
    (input, end, weight), dtype = _in_one_dtype(input, end, weight)
    difference = end - input
    near = input + weight * difference
    far = end - difference * (1 - weight)
    return torch.where(weight.abs() < 0.5, near, far).to(dtype)


def addcmul_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input.copy_(_for_input(input, addcmul(input, *args, **kwargs)))


def addcdiv_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input.copy_(_for_input(input, addcdiv(input, *args, **kwargs)))


def lerp_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input.copy_(_for_input(input, lerp(input, *args, **kwargs)))


def _for_input(input: Tensor, result: Tensor) -> Tensor:
    need(result.dtype == input.dtype)
    return result


def _times(tensor: Tensor, value: float) -> Tensor:
    need(isinstance(value, (int, float)))
    return tensor if value == 1 else tensor * value


def _in_one_dtype(*tensors: Tensor) -> tuple[list[Tensor], torch.dtype]:
    """Three tensors in the arithmetic type of their result, and its dtype."""
    need(all(isinstance(t, Tensor) and t.is_floating_point() for t in tensors))
    # A tensor without dimensions counts as a number beside others.
    some = [t.dtype for t in tensors if t.dim() > 0] or [t.dtype for t in tensors]
    dtype = some[0]
    for other in some[1:]:
        dtype = promoted(dtype, other)
    wide = dtype if dtype is torch.float64 else torch.float32
    device = next((t.device for t in tensors if t.dim() > 0), tensors[0].device)
    return [t.to(dtype=wide, device=t.device if t.dim() > 0 else device) for t in tensors], dtype


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    # One multiplication an element, whatever a backend's own kernel makes of it.
    need(input.dim() == vec2.dim() == 1 and input.dtype == vec2.dtype)
    return input[:, None] * vec2


def maximum(input: Tensor, other: Tensor) -> Tensor:
    # R0: NaN wins, and of two zeros +0. Stock chooses one of the zeros by its place in a vector.
    need(input.is_floating_point() and other.is_floating_point())
    larger = torch.where((input > other) | (input != input), input, other)
    return torch.where((input == 0) & (other == 0), input + other, larger)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    # R0 again: NaN wins, and of two zeros -0, which only a sum of two -0 is.
    need(input.is_floating_point() and other.is_floating_point())
    smaller = torch.where((input < other) | (input != input), input, other)
    return torch.where((input == 0) & (other == 0), -(-input - other), smaller)


def einsum_left_to_right(equation: str, *operands: Any) -> Tensor:
    """torch.einsum, which asks opt_einsum for an order, if that is installed, without asking it."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return _torch.einsum_as_given(equation, operands)


def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Sums of overlapping blocks: to +0 one term after another, by their places in the kernel, row
    by row; rounded to a 16-bit type once.
    """
    (height, width), (kernel_h, kernel_w), (dilation_h, dilation_w), (pad_h, pad_w), steps = (
        integers(value, 2, "size")
        for value in (output_size, kernel_size, dilation, padding, stride)
    )
    need(input.dim() in (2, 3) and input.is_floating_point() and input.shape[-2] > 0)
    need(min(*steps, kernel_h, kernel_w, dilation_h, dilation_w) > 0 and min(pad_h, pad_w) >= 0)
    rows = (height + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) // steps[0] + 1
    columns = (width + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) // steps[1] + 1
    need(min(rows, columns) > 0 and input.shape[-1] == rows * columns)
    need(input.shape[-2] % (kernel_h * kernel_w) == 0)
    wide = _wide(input)
    batch = input.shape[:-2]
    channels = input.shape[-2] // (kernel_h * kernel_w)
    blocks = wide.reshape(*batch, channels, kernel_h, kernel_w, rows, columns)
    total = wide.new_zeros(*batch, channels, height + 2 * pad_h, width + 2 * pad_w)
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * dilation_h, j * dilation_w
            place = total[
                ...,
                top : top + (rows - 1) * steps[0] + 1 : steps[0],
                left : left + (columns - 1) * steps[1] + 1 : steps[1],
            ]
            place += blocks[..., i, j, :, :]
    inside = total[..., pad_h : pad_h + height, pad_w : pad_w + width]
    return inside.to(input.dtype).contiguous()
