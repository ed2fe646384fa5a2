"""Transposed convolution in one, two and three dimensions: rule R1 in the gather form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bninv._arguments import IntPair, integers, need_tensor
from bninv._memory_format import is_channels_last, is_panel
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.conv2d import conv1d, conv2d
from bninv.operators.conv3d import conv3d, draw_groups, draw_volume
from bninv.operators.draw import Draw
from bninv.operators.fakes import empty
from bninv.operators.operator import Operator

_NAMES = {1: "length", 2: "height, width", 3: "depth, height, width"}


def _transposed(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntPair,
    padding: IntPair,
    output_padding: IntPair,
    groups: int,
    dilation: IntPair,
) -> Tensor:
    """One and two dimensions are the last of three, the others of size 1."""
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() not in (dims + 1, dims + 2):
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [batch, channels, {_NAMES[dims]}] "
            f"or [channels, {_NAMES[dims]}]"
        )
    if weight.dim() != dims + 2:
        raise ValueError(
            f"`weight` has shape {list(weight.shape)}; it may be [channels, out_channels / groups, "
            f"kernel...] of {dims + 2} dimensions"
        )
    unbatched = input.dim() == dims + 1
    if unbatched:
        input = input.unsqueeze(0)
    for _ in range(3 - dims):
        input, weight = input.unsqueeze(2), weight.unsqueeze(2)

    def filled(value: Any, fill: int, name: str) -> list[int]:
        return [fill] * (3 - dims) + integers(value, dims, name)

    result = call(
        ops.conv_transpose3d.default,
        input,
        weight,
        bias,
        filled(stride, 1, "stride"),
        filled(padding, 0, "padding"),
        filled(output_padding, 0, "output_padding"),
        groups,
        filled(dilation, 1, "dilation"),
    )
    for _ in range(3 - dims):
        result = result.squeeze(2)
    return result.squeeze(0) if unbatched else result


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """`conv_transpose2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """Transposed convolution, rule R1 in the gather form: each output adds the taps (r, s) of the
    kernel as stored that reach an input for it, in the order `(r * kernel_w + s) *
    channels_per_group + c`, c being the input's channel. A tap that reaches none, by the stride's
    gaps or beyond an edge, keeps its place in the count of 128 terms a chain and is no term.

    Args:
        input: [batch, channels, height, width] or [channels, height, width]; float32, float64,
            float16 or bfloat16.
        weight: [channels, out_channels / groups, kernel_h, kernel_w], of the input's dtype. The
            (r, s, c, o) strides that `bninv.patch` gives where there is one group are used in
            place; others are packed for the call.
        bias: [out_channels] or None, of the input's dtype.
        output_padding: less than the stride or the dilation.

    Returns:
        [batch, out_channels, out_h, out_w]: channels_last if the input or the weight is (the panel
        counts as such), else contiguous.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """`conv_transpose2d` over three dimensions, with `conv3d`'s order of taps."""
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# ---- The operator --------------------------------------------------------------------------------


def _fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Tensor:
    size = [
        (input.size(i + 2) - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (weight.size(i + 2) - 1)
        + output_padding[i]
        + 1
        for i in range(3)
    ]
    channels_last = (
        is_channels_last(input)
        or is_channels_last(weight)
        or (_may_be_panel(weight, groups) and not weight.is_contiguous())
    )
    return empty(input, [input.size(0), weight.size(1) * groups, *size], channels_last)


def _may_be_panel(weight: Tensor, groups: int) -> bool:
    """Of several groups only those of a single channel can lie in the kernels' order."""
    return groups in (1, weight.size(0)) and is_panel(weight.transpose(0, 1))


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    groups, per_group, out = draw_groups(draw)
    kernel = pick([[1, 1, 1], [1, 2, 2], [1, 4, 4], [1, 3, 3], [3, 3, 3], [2, 3, 4], [1, 1, 9]])
    stride = [pick([1, 2, 2, 3]) for _ in kernel]
    dilation = [pick([1, 1, 1, 2]) for _ in kernel]
    padding = [pick([0, 0, (d * (k - 1)) // 2]) for d, k in zip(dilation, kernel, strict=True)]
    extra = [pick([0, 0, max(s, d) - 1]) for s, d in zip(stride, dilation, strict=True)]
    weight = draw.tensor(groups * per_group, out, *kernel)
    if draw.random.random() < 0.5:  # as `patch` lays it out
        weight = weight.permute(2, 3, 4, 0, 1).contiguous().permute(3, 4, 0, 1, 2)
    x = draw_volume(draw, groups * max(per_group, out * 4), [1, 1, 1])[:, : groups * per_group]
    bias = draw.maybe(draw.tensor(groups * out))
    return [x, weight, bias, stride, padding, extra, groups, dilation]


OPERATORS = [
    Operator(
        "conv_transpose3d",
        "(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
        "int[] output_padding, int groups, int[] dilation) -> Tensor",
        _fake,
        _draw,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """What every convolution of ATen ends in."""
    dims = input.dim() - 2
    need(dims in (1, 2, 3) and input.dim() == weight.dim())
    if transposed:
        return _transposed(
            dims, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    function = {1: conv1d, 2: conv2d, 3: conv3d}[dims]
    return function(input, weight, bias, stride, padding, dilation, groups)


ATEN: dict[str, Adapter] = {
    "convolution": _convolution,
    "conv_transpose1d": conv_transpose1d,
    "conv_transpose2d": conv_transpose2d,
    "conv_transpose3d": conv_transpose3d,
}
PYTHON: dict[str, Adapter] = {}

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
