"""R9 as products of tensors, from reference_tensor.py's blocks: slow, literal, NumPy only.

Tensors in, tensors out, in the dtype of the input, as in reference_dtypes.py. What R9 does not
reach is R1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support import reference, reference_dtypes
from tests.support.reference_tensor import CLASSES, F32, F64, GROUP, SMALLEST, Class, block, values

SEGMENT = 128
FORMATS = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "tf32"}
CHUNK = {torch.float16: 8, torch.bfloat16: 8, torch.float32: 4}  # channels of a tap in 16 bytes


def reaches(dtype: torch.dtype, groups: int, group_channels: int) -> bool:
    return dtype in FORMATS and (groups == 1 or group_channels >= 32)


def operands(x: Tensor) -> F64:
    """What tensor cores see of a tensor. float32: 10 fraction bits, half away from zero."""
    x = x.detach().resolve_neg().contiguous()
    if x.dtype != torch.float32:
        return values(FORMATS[x.dtype], x.view(torch.int16).numpy().view(np.uint16))
    bits = x.numpy().view(np.uint32)
    finite = bits & np.uint32(0x7F800000) != 0x7F800000
    rounded = bits + np.where(finite, np.uint32(0x1000), np.uint32(0))
    # A NaN stays one, wherever its bits are.
    return values("tf32", np.where(np.isnan(x.numpy()), np.uint32(0x7FC00000), rounded))


def segment_sum(a: F64, b: F64, format: str, rule: Class) -> F32:
    """One segment's terms, the last axis of both, from +0."""
    size = GROUP[format] // rule.parts
    total = np.zeros(np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), np.float32)
    for k in range(0, a.shape[-1], size):
        part = slice(k, k + size)
        total = block(
            a[..., part],
            b[..., part],
            total.astype(np.float64),
            SMALLEST[format],
            rule.fraction_bits,
            rule.floor,
        )
    return total


def dot(a: F64, b: F64, format: str, rule: Class, segment: int = SEGMENT) -> F32:
    """Segments, added in binary32 from left to right. `segment` other than 128 is not R9."""
    total = np.zeros(np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), np.float32)
    with np.errstate(all="ignore"):
        for k in range(0, a.shape[-1], segment):
            part = slice(k, k + segment)
            total = total + segment_sum(a[..., part], b[..., part], format, rule)
    return total


def _finished(total: F32, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`total` has the channels last, the result at dimension 1 or, of two, last as well."""
    with np.errstate(all="ignore"):
        if bias is not None:
            total = total + reference_dtypes.widened(bias, dtype)
    return reference_dtypes.rounded(np.ascontiguousarray(total), dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, name: str) -> Tensor:
    """`name` is 'A' or 'H'."""
    if not reaches(x.dtype, 1, x.size(-1)):
        return reference_dtypes.linear(x, weight, bias)
    a, b = operands(x), operands(weight)
    total = dot(a[..., None, :], b, FORMATS[x.dtype], CLASSES[name])
    return _finished(total, bias, x.dtype)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    name: str,
) -> Tensor:
    """Term k = (r * S + s) * C' + c, where C' is a group's channels up to a multiple of CHUNK."""
    options = (stride, padding, dilation, groups)
    if not reaches(x.dtype, groups, weight.size(1)):
        return reference_dtypes.conv2d(x, weight, bias, *options)
    (stride_h, stride_w), (pad_h, pad_w) = reference.pair(stride), reference.pair(padding)
    dilation_h, dilation_w = reference.pair(dilation)
    filters, channels, kernel_h, kernel_w = weight.shape
    more = -channels % CHUNK[x.dtype]
    a = np.pad(operands(x), ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    out_h = (a.shape[2] - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (a.shape[3] - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    grouped = a.reshape(len(a), groups, channels, *a.shape[2:])
    taps: list[NDArray[np.float64]] = []
    for r in range(kernel_h):
        for s in range(kernel_w):
            rows = slice(r * dilation_h, r * dilation_h + (out_h - 1) * stride_h + 1, stride_h)
            columns = slice(s * dilation_w, s * dilation_w + (out_w - 1) * stride_w + 1, stride_w)
            tap = np.moveaxis(grouped[:, :, :, rows, columns], 2, -1)  # n, group, h, w, c
            taps.append(np.pad(tap, (*[(0, 0)] * 4, (0, more))))
    left = np.concatenate(taps, axis=-1)
    right = operands(weight).reshape(groups, filters // groups, channels, kernel_h, kernel_w)
    right = np.pad(np.moveaxis(right, 2, -1), (*[(0, 0)] * 4, (0, more)))
    right = right.reshape(groups, filters // groups, left.shape[-1])
    total = dot(
        left[:, :, :, :, None], right[:, None, None], FORMATS[x.dtype], CLASSES[name]
    )  # n, group, h, w, filter
    total = np.moveaxis(total, 1, 3).reshape(len(a), out_h, out_w, filters)
    return _finished(total, bias, x.dtype).permute(0, 3, 1, 2).contiguous()
