"""Functions that become several exact operations, in one fixed order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import integers
from bninv._rounding import widened
from bninv.operators import binary
from bninv.operators.adapters import Adapter, need
from bninv.operators.unary import rsqrt, sqrt


def _cube(input: Tensor) -> Tensor:
    # In half precision each product would round; so it rounds once.
    wide = widened(input)
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
    wide = widened(input)
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
