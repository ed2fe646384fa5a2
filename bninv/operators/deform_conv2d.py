"""Deformable 2-d convolution: taps between pixels by R8's chains, and a product by rule R1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import IntPair, integers, need_tensor
from bninv._autocast import widened, without
from bninv.operators import fakes
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator

# Memory that the taps of a call may take, or those of one sample. Free: no bit depends on it.
_MOST_BYTES = {"cpu": 2**26, "cuda": 2**29}


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """2-d convolution whose taps are moved, rule R1: each to a place between pixels.

    A tap's value is that of four pixels, by R8's chains, times the mask, rounded to the dtype
    once; the product is `conv2d`'s. The result is contiguous.

    Args:
        input: [batch, channels, height, width].
        offset: [batch, 2 * groups * kernel_h * kernel_w, out_h, out_w]: how far each tap is moved
            down and right, for each of `groups` groups of channels.
        weight: [out_channels, channels / weight groups, kernel_h, kernel_w].
        bias: [out_channels] or None.
        mask: [batch, groups * kernel_h * kernel_w, out_h, out_w] or None: factors of the taps.

    All tensors have the input's dtype. Under autocast on CUDA, as torchvision's operator, they are
    cast to float32, and the result back to the input's dtype.
    """
    for name, value in (("input", input), ("offset", offset), ("weight", weight)):
        need_tensor(name, value)
    for name, optional in (("bias", bias), ("mask", mask)):
        if optional is not None:
            need_tensor(name, optional)
    if weight.dim() != 4 or min(weight.shape[1:]) < 1:
        raise ValueError(
            f"`weight` has shape {list(weight.shape)}; it may be "
            "[out_channels, channels / groups, kernel_h, kernel_w]"
        )
    options = [
        integers(value, 2, name)
        for value, name in ((stride, "stride"), (padding, "padding"), (dilation, "dilation"))
    ]
    dtype = input.dtype
    if _torch.any_autocast() and input.device.type == "cuda":
        input, offset, weight = widened("cuda", input, offset, weight)
        bias, mask = (t if t is None else widened("cuda", t)[0] for t in (bias, mask))
    with without(input.device.type):
        return _convolved(input, offset, weight, bias, mask, options).to(dtype)


def _convolved(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    options: list[list[int]],
) -> Tensor:
    kernel_size = list(weight.shape[2:])
    groups = input.shape[1] // weight.shape[1] if input.dim() == 4 else 1

    def some(input: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        taps = call(ops.deform_taps.default, input, offset, mask, kernel_size, *options)
        # An output pixel's taps lie side by side, so that this kernel finds its terms in order.
        ones, zeros = [1, 1], [0, 0]
        product: Tensor = call(
            ops.conv2d.default, taps, weight, bias, kernel_size, zeros, ones, groups, "ieee"
        )
        return product.contiguous()

    samples = _samples_at_once(input, offset, kernel_size)
    if samples >= len(input):
        return some(input, offset, mask)
    parts = [slice(i, i + samples) for i in range(0, len(input), samples)]
    masks = [None if mask is None else mask[part] for part in parts]
    return torch.cat([some(input[p], offset[p], m) for p, m in zip(parts, masks, strict=True)])


def _samples_at_once(input: Tensor, offset: Tensor, kernel_size: list[int]) -> int:
    if torch.compiler.is_compiling() or input.dim() != 4 or offset.dim() != 4:
        return len(input)
    elements = input.shape[1] * math.prod(kernel_size) * math.prod(offset.shape[2:])
    most = _MOST_BYTES.get(input.device.type, 2**62)
    return max(1, most // max(1, elements * input.element_size()))


# ---- The operator --------------------------------------------------------------------------------


def _fake_taps(input: Tensor, offset: Tensor, mask: Any, kernel_size: Any, *_: Any) -> Tensor:
    sizes = [n * k for n, k in zip(offset.shape[2:], kernel_size, strict=True)]
    return fakes.empty(input, [*input.shape[:2], *sizes], channels_last=True)


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    groups = pick([1, 1, 2, 3])
    channels = groups * draw.size(min(65, max(1, draw.most // 400)))
    kernel, stride, dilation = ([pick([1, 2, 3]), pick([1, 2, 3])] for _ in range(3))
    padding = [pick([0, 1, 2]), pick([0, 1, 2])]
    most = max(1, min(17, math.isqrt(draw.most // (9 * channels))))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [n + draw.size(most) - 1 for n in reach]
    out = [
        (n + 2 * p - r) // s + 1 for n, p, r, s in zip(image, padding, reach, stride, strict=True)
    ]
    batch, taps = draw.size(2), groups * kernel[0] * kernel[1]
    x, offset = draw.input(batch, channels, *image), draw.input(batch, 2 * taps, *out)
    mask = draw.maybe(draw.input(batch, taps, *out))
    return [x, offset, mask, kernel, stride, padding, dilation]


OPERATORS = [
    Operator(
        "deform_taps",
        "(Tensor input, Tensor offset, Tensor? mask, int[] kernel_size, int[] stride, "
        "int[] padding, int[] dilation) -> Tensor",
        _fake_taps,
        _draw,
    )
]


# ---- torchvision's signature ---------------------------------------------------------------------


def _deform_conv2d(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Tensor:
    need(input.dim() == offset.dim() == weight.dim() == 4 and min(weight.shape[1:]) > 0)
    taps = weight.shape[2] * weight.shape[3]
    need(input.shape[1] == groups * weight.shape[1] and offset.shape[1] == 2 * taps * offset_groups)
    return deform_conv2d(
        *(input, offset, weight, bias),
        *((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)),
        mask if use_mask else None,
    )


ATEN: dict[str, Adapter] = {}
PYTHON: dict[str, Adapter] = {}
TORCHVISION: dict[str, Adapter] = {"deform_conv2d": _deform_conv2d}

__all__ = ["deform_conv2d"]
