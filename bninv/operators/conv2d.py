"""Convolution: rules R1 and, where `precision` asks for it, R9.

| `precision` | float32 operands | equal bits on | error of float32, float16, bfloat16 |
|---|---|---|---|
| 'ieee' | as they are | every device | 2.4e-7, 3e-4, 2.4e-3 |
| 'tensor' | TF32: 10 fraction bits | GPUs of one class | 3e-4, 3e-4, 2.4e-3 |
| 'tensor-A' | TF32 | GPUs 8.x, and CPUs, 4 to 10 times slower | 3e-4, 3e-4, 2.4e-3 |
| 'tensor-H' | TF32 | GPUs 9.0, 10.x, 12.x, and CPUs | 3e-4, 3e-4, 2.4e-3 |

(The largest error against float64 over the largest element, of 2,304 products of normal numbers.)
Every one is invariant over batch, position, layout, threads and fusion (docs/numerics.md).
'tensor' on a CPU means the class that `bninv.emulate` names, and is an error outside of it. float64
tensors, and convolutions of several groups with fewer than 32 channels each, run 'ieee' whatever is
asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bninv._arguments import (
    Activation,
    IntPair,
    Precision,
    integers,
    need_precision,
    need_tensor,
    number,
)
from bninv._memory_format import is_channels_last, is_panel
from bninv._shown import shown
from bninv.operators.adapters import Adapter
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.fakes import empty
from bninv.operators.operator import EPILOGUE, Operator


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | Literal["same", "valid"] = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    precision: Precision = "ieee",
) -> Tensor:
    """2-d convolution, rule R1: terms in the order `(r * kernel_w + s) * channels_per_group + c`,
    fma chains of 128 terms added from left to right, then the bias. Taps on padding are terms with
    input +0.

    Args:
        input: [batch, channels, height, width] or [channels, height, width]; float32, float64,
            float16 or bfloat16.
        weight: [out_channels, channels / groups, kernel_h, kernel_w], of the input's dtype. The
            (r, s, c, o) strides that `bninv.patch` gives are used in place; others are packed for
            the call.
        bias: [out_channels] or None, of the input's dtype.
        padding: integers, 'valid', or 'same' (stride 1 only).
        precision: 'ieee'; or, rule R9, 'tensor', by the tensor cores of the input's GPU; or, for a
            CPU to reproduce them, slowly, 'tensor-A' or 'tensor-H'. See the head of this file.

    Returns:
        [batch, out_channels, out_h, out_w]: channels_last if the input or the weight is (the panel
        counts as such), else contiguous.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    need_precision(precision)
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() == 3:
        batch = input.unsqueeze(0)
        return conv2d(
            batch, weight, bias, stride, padding, dilation, groups, precision=precision
        ).squeeze(0)
    strides, dilations = integers(stride, 2, "stride"), integers(dilation, 2, "dilation")
    if isinstance(padding, str):
        input, paddings = pad_named(input, weight, padding, strides, dilations)
    else:
        paddings = integers(padding, 2, "padding")
    return call(
        ops.conv2d.default, input, weight, bias, strides, paddings, dilations, groups, precision
    )


def pad_named(
    input: Tensor, weight: Tensor, padding: str, stride: list[int], dilation: list[int]
) -> tuple[Tensor, list[int]]:
    """The input, padded where 'same' is uneven, and the padding that is left to the operator."""
    if padding == "valid":
        return input, [0] * len(stride)
    if padding != "same":
        raise ValueError(f"`padding` is {shown(padding)}; it may be integers, 'same' or 'valid'")
    if any(s != 1 for s in stride):
        raise ValueError(f"`padding` 'same' needs a `stride` of 1; it is {stride}")
    totals = [dilation[i] * (weight.size(i + 2) - 1) for i in range(weight.dim() - 2)]
    if all(total % 2 == 0 for total in totals):
        return input, [total // 2 for total in totals]
    # PyTorch puts the odd element at the end. Padding moves data and rounds nothing.
    amounts = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
    return torch.nn.functional.pad(input, amounts), [0] * len(totals)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | Literal["same", "valid"] = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    precision: Precision = "ieee",
) -> Tensor:
    """1-d convolution, rule R1: `conv2d` with a kernel height of 1.

    Args:
        input: [batch, channels, length] or [channels, length].
        weight: [out_channels, channels / groups, kernel].
        Others as for `conv2d`.

    Returns:
        [batch, out_channels, out_length], contiguous unless the weight's strides are the panel's.
    """
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() not in (2, 3):
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [batch, channels, length] or "
            "[channels, length]"
        )
    if weight.dim() != 3:
        raise ValueError(
            f"`weight` has shape {list(weight.shape)}; it may be "
            "[out_channels, channels / groups, kernel]"
        )
    if not isinstance(padding, str):
        padding = [0, *integers(padding, 1, "padding")]
    return conv2d(
        input.unsqueeze(-2),
        weight.unsqueeze(2),
        bias,
        [1, *integers(stride, 1, "stride")],
        padding,
        [1, *integers(dilation, 1, "dilation")],
        groups,
        precision=precision,
    ).squeeze(-2)


def conv2d_fused(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: Activation = "none",
    negative_slope: float = 0.01,
    precision: Precision = "ieee",
) -> Tensor:
    """`activation(batch_norm(conv2d(input)) + residual)` with the bits of the separate operators:
    each step rounds to the input's dtype before the next one takes it.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as for `conv2d`, with a batch.
        running_mean, running_var: [out_channels] both, or None both: no batch_norm.
        norm_weight, norm_bias: batch_norm's, [out_channels] or None. All four may be float32 beside
            a float16 or bfloat16 input.
        eps: batch_norm's.
        residual: of the result's shape, dtype and device, or None.
        activation: 'none', 'relu', 'relu6', 'leaky_relu', 'hardswish', 'hardsigmoid' or, not in
            float64, 'silu', 'sigmoid', 'gelu', 'gelu_tanh' or 'tanh'.
        negative_slope: leaky_relu's.
        precision: the product's, as for `conv2d`.

    Returns:
        As `conv2d`. Under autocast input, weight and bias are cast, as those of `conv2d`.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    need_precision(precision)
    return call(
        ops.conv2d_fused.default,
        input,
        weight,
        bias,
        integers(stride, 2, "stride"),
        integers(padding, 2, "padding"),
        integers(dilation, 2, "dilation"),
        groups,
        running_mean,
        running_var,
        norm_weight,
        norm_bias,
        number(eps, "eps"),
        residual,
        activation,
        number(negative_slope, "negative_slope"),
        precision,
    )


# ---- The operators -------------------------------------------------------------------------------


def fake_convolution(
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
        for i in range(len(stride))
    ]
    channels_last = (
        is_channels_last(input)
        or is_channels_last(weight)
        or (is_panel(weight) and not weight.is_contiguous())
    )
    return empty(input, [input.size(0), weight.size(0), *size], channels_last)


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    groups = pick([1, 1, 1, 2, 3, 8, 32])
    per_group = draw.size(min(300, max(1, draw.most // 64) // groups))
    channels = groups * per_group
    kind = draw.random.random()
    if kind < 0.2:  # depthwise
        groups, per_group = channels, 1
    out = groups * (1 if kind < 0.2 else draw.size(min(129, max(1, draw.most // 64) // groups)))
    kernel = pick([[1, 1], [1, 1], [3, 3], [3, 3], [2, 3], [5, 5], [7, 7]])
    dilation = [pick([1, 1, 2]), pick([1, 1, 2])]
    padding = [pick([0, k // 2, 1]) for k in kernel]
    area = max(1, draw.most // max(channels, out))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [n + draw.size(min(20, math.isqrt(area))) - 1 for n in least]
    batch = draw.size(min(33, max(1, area // (image[0] * image[1]))))
    weight = draw.tensor(out, per_group, *kernel)
    if draw.random.random() < 0.5:  # as `patch` lays it out
        weight = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    stride = [pick([1, 1, 2, 3]) for _ in kernel]
    x = draw.input(batch, channels, *image)
    return [x, weight, draw.maybe(draw.tensor(out)), stride, padding, dilation, groups]


def _draw_fused(draw: Draw) -> list[Any]:
    args = _draw(draw)
    out = args[1].size(0)
    shape = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            args[0].shape[2:], args[4], args[5], args[1].shape[2:], args[3], strict=True
        )
    ]
    norm: list[Any] = [None] * 4
    if draw.random.random() < 0.7:
        norm = [*draw.statistics(out), draw.maybe(draw.tensor(out)), draw.maybe(draw.tensor(out))]
    residual = draw.maybe(draw.input(args[0].size(0), out, *shape))
    return [*args, *norm, 1e-3, residual, *draw.epilogue()]


_CONVOLUTION = (
    "Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
    "int groups"
)

OPERATORS = [
    Operator(
        "conv2d", f"({_CONVOLUTION}, str precision='ieee') -> Tensor", fake_convolution, _draw
    ),
    # A product and what follows it, each step rounded as the separate operators round.
    Operator(
        "conv2d_fused",
        f"({_CONVOLUTION}, Tensor? running_mean, Tensor? running_var, Tensor? norm_weight, "
        f"Tensor? norm_bias, float eps, {EPILOGUE}, str precision='ieee') -> Tensor",
        fake_convolution,
        _draw_fused,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


ATEN: dict[str, Adapter] = {"conv1d": conv1d, "conv2d": conv2d}
PYTHON: dict[str, Adapter] = {}

__all__ = ["conv1d", "conv2d", "conv2d_fused"]
