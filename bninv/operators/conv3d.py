"""3-d convolution: rule R1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from bninv._arguments import IntPair, integers, need_tensor
from bninv.operators.adapters import Adapter
from bninv.operators.call import call, ops
from bninv.operators.conv2d import fake_convolution, pad_named
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | Literal["same", "valid"] = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """3-d convolution, rule R1: terms in the order
    `((t * kernel_h + r) * kernel_w + s) * channels_per_group + c`, fma chains of 128 terms added
    from left to right, then the bias. Taps on padding are terms with input +0.

    Args:
        input: [batch, channels, depth, height, width] or the same without the batch; float32,
            float64, float16 or bfloat16.
        weight: [out_channels, channels / groups, kernel_d, kernel_h, kernel_w], of the input's
            dtype. The (t, r, s, c, o) strides that `bninv.patch` gives are used in place; others
            are packed for the call.
        bias: [out_channels] or None, of the input's dtype.
        padding: integers, 'valid', or 'same' (stride 1 only).

    Returns:
        [batch, out_channels, out_d, out_h, out_w]: channels_last_3d if the input or the weight is
        (the panel counts as such), else contiguous.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() == 4:
        batch = input.unsqueeze(0)
        return conv3d(batch, weight, bias, stride, padding, dilation, groups).squeeze(0)
    strides, dilations = integers(stride, 3, "stride"), integers(dilation, 3, "dilation")
    if isinstance(padding, str):
        input, paddings = pad_named(input, weight, padding, strides, dilations)
    else:
        paddings = integers(padding, 3, "padding")
    return call(ops.conv3d.default, input, weight, bias, strides, paddings, dilations, groups)


# ---- The operator --------------------------------------------------------------------------------


def draw_groups(draw: Draw) -> tuple[int, int, int]:
    """Groups, and the channels and the outputs of each."""
    pick = draw.random.choice
    if draw.random.random() < 0.2:  # depthwise
        return draw.size(min(70, max(1, draw.most // 64))), 1, 1
    groups = pick([1, 1, 1, 2, 3])
    return groups, draw.size(min(150, max(1, draw.most // 64))), draw.size(40)


def draw_volume(draw: Draw, channels: int, least: Sequence[int]) -> Tensor:
    """An input that is at least so large."""
    edge = max(1, round(max(1, draw.most // channels) ** (1 / 3)))
    volume = [max(1, n) + draw.size(min(8, edge)) - 1 for n in least]
    batch = draw.size(min(9, max(1, draw.most // (channels * volume[0] * volume[1] * volume[2]))))
    return draw.input(batch, channels, *volume)


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    groups, per_group, out = draw_groups(draw)
    kernel = pick([[1, 1, 1], [3, 3, 3], [3, 3, 3], [1, 3, 3], [3, 1, 1], [2, 3, 4], [1, 7, 7]])
    dilation = [pick([1, 1, 2]) for _ in kernel]
    padding = [pick([0, k // 2, 1]) for k in kernel]
    least = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    weight = draw.tensor(groups * out, per_group, *kernel)
    if draw.random.random() < 0.5:  # as `patch` lays it out
        weight = weight.permute(2, 3, 4, 1, 0).contiguous().permute(4, 3, 0, 1, 2)
    stride = [pick([1, 1, 2, 3]) for _ in kernel]
    x = draw_volume(draw, groups * per_group, least)
    bias = draw.maybe(draw.tensor(groups * out))
    return [x, weight, bias, stride, padding, dilation, groups]


OPERATORS = [
    Operator(
        "conv3d",
        "(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
        "int[] dilation, int groups) -> Tensor",
        fake_convolution,
        _draw,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------

ATEN: dict[str, Adapter] = {"conv3d": conv3d}
PYTHON: dict[str, Adapter] = {}

__all__ = ["conv3d"]
