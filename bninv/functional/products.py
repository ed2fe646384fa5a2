"""Convolution and linear layers: rules R1 and, where `precision` asks for it, R9.

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

from typing import Literal

import torch
from torch import Tensor

from bninv._arguments import IntPair, Precision, integers, need_precision, need_tensor
from bninv.functional._call import call, ops


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
        input, paddings = _pad_named(input, weight, padding, strides, dilations)
    else:
        paddings = integers(padding, 2, "padding")
    return call(
        ops.conv2d.default, input, weight, bias, strides, paddings, dilations, groups, precision
    )


def _pad_named(
    input: Tensor, weight: Tensor, padding: str, stride: list[int], dilation: list[int]
) -> tuple[Tensor, list[int]]:
    if padding == "valid":
        return input, [0, 0]
    if padding != "same":
        raise ValueError(f"`padding` is {padding!r}; it may be integers, 'same' or 'valid'")
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


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, precision: Precision = "ieee"
) -> Tensor:
    """`input @ weight.T + bias`, rule R1: fma chains of 128 features added from left to right.

    Args:
        input: [..., in_features]; float32, float64, float16 or bfloat16. The others have its dtype.
        weight: [out_features, in_features]; strides (1, out_features), which `bninv.patch` gives,
            are used in place; others are packed for the call.
        bias: [out_features] or None.
        precision: 'ieee', 'tensor', 'tensor-A' or 'tensor-H', as for `conv2d`.

    Returns:
        [..., out_features], contiguous.
    """
    need_precision(precision)
    return call(ops.linear.default, input, weight, bias, precision)


def matmul(input: Tensor, other: Tensor, *, precision: Precision = "ieee") -> Tensor:
    """`input @ other` by torch.matmul's rules of shape, rule R1 over the last dimension of `input`.

    A product of two batches of matrices runs sample by sample: it is there to be right, for the
    small ones that convolutional networks have. `precision` is as for `conv2d`.
    """
    need_precision(precision)
    need_tensor("input", input)
    need_tensor("other", other)
    if input.dim() == 0 or other.dim() == 0:
        raise ValueError(
            f"`input` and `other` have {input.dim()} and {other.dim()} dimensions; each may have 1 "
            "and more"
        )
    if other.dim() == 1:
        return linear(input, other.unsqueeze(0), precision=precision).squeeze(-1)
    if other.dim() == 2:
        return linear(input, other.t(), precision=precision)
    rows = input if input.dim() > 1 else input.unsqueeze(0)
    batch = torch.broadcast_shapes(rows.shape[:-2], other.shape[:-2])
    left = rows.expand(*batch, *rows.shape[-2:]).reshape(-1, *rows.shape[-2:])
    right = other.expand(*batch, *other.shape[-2:]).reshape(-1, *other.shape[-2:])
    if len(left) == 0:
        return rows.new_empty(*batch, rows.size(-2), other.size(-1))
    products = torch.stack(
        [linear(a, b.t(), precision=precision) for a, b in zip(left, right, strict=True)]
    )
    result = products.reshape(*batch, rows.size(-2), other.size(-1))
    return result if input.dim() > 1 else result.squeeze(-2)
