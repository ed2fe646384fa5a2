"""conv3d and the transposed convolutions (docs/numerics.md, R1): literal, slow, NumPy only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tests.support.reference import SEGMENT, Reals, add_bias, fma_of

Sizes = int | Sequence[int]


def each(value: Sizes, dims: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def _gathered(
    x: Reals,
    weight: Reals,
    bias: Reals | None,
    groups: int,
    sizes: Sequence[int],
    source: list[list[np.ndarray]],
    absent: bool,
) -> Reals:
    """x (N, C, ...), weight (O, C / groups, ...): R1 with the taps in row-major order, channels
    fastest. source[d][r]: along dimension d, which input element tap r brings to each output; -1
    where it brings none, which is no term if `absent`, else a term with input +0.
    """
    out_channels, channels, *kernel = weight.shape
    batch, dims, out = len(x), len(kernel), out_channels // groups
    split = x.reshape(batch, groups, channels, *x.shape[2:])
    filters = weight.reshape(groups, out, channels, *kernel)
    shape = (batch, groups, out, *sizes)
    total, chain = np.zeros(shape, x.dtype), np.zeros(shape, x.dtype)
    fused = fma_of(x.dtype)
    k = 0
    for tap in itertools.product(*(range(n) for n in kernel)):
        places = [source[d][tap[d]] for d in range(dims)]
        exists = np.ones(tuple(sizes), bool)
        for d, place in enumerate(places):
            exists &= (place >= 0).reshape([-1 if i == d else 1 for i in range(dims)])
        grid = np.ix_(*(np.maximum(place, 0) for place in places))
        for c in range(channels):
            if x.size and all(x.shape[2:]):
                a = np.where(exists, split[:, :, c][(slice(None),) * 2 + grid], 0)
            else:
                a = np.zeros((batch, groups, *sizes), x.dtype)
            term = (slice(None), slice(None), c, *tap)
            b = filters[term].reshape(groups, out, *[1] * dims)
            step = fused(a[:, :, None].astype(x.dtype), b, chain)
            chain = np.where(exists, step, chain) if absent else step
            k += 1
            if k % SEGMENT == 0:
                with np.errstate(all="ignore"):
                    total = total + chain
                chain = np.zeros(shape, x.dtype)
    with np.errstate(all="ignore"):
        total = total + chain  # +0 where the last segment was whole
    total = total.reshape(batch, out_channels, *sizes)
    return add_bias(total, None if bias is None else bias.reshape(-1, *[1] * dims))


def convolution(
    x: Reals,
    weight: Reals,
    bias: Reals | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Reals:
    """As torch.nn.functional.conv1d, conv2d or conv3d; a tap on padding has the input +0."""
    dims = x.ndim - 2
    steps, spread = each(stride, dims), each(dilation, dims)
    spans = [spread[d] * (weight.shape[2 + d] - 1) for d in range(dims)]
    if padding == "same":  # the odd one of an odd total goes to the end
        before, around = [span // 2 for span in spans], spans
    else:
        before = [0] * dims if isinstance(padding, str) else each(padding, dims)
        around = [2 * p for p in before]
    sizes = [(x.shape[2 + d] + around[d] - spans[d] - 1) // steps[d] + 1 for d in range(dims)]
    source = []
    for d in range(dims):
        outputs = np.arange(sizes[d])
        reads = [outputs * steps[d] - before[d] + r * spread[d] for r in range(weight.shape[2 + d])]
        source.append([np.where((i >= 0) & (i < x.shape[2 + d]), i, -1) for i in reads])
    return _gathered(x, weight, bias, groups, sizes, source, absent=False)


def conv_transpose(
    x: Reals,
    weight: Reals,
    bias: Reals | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Reals:
    """As torch.nn.functional.conv_transpose1d, 2d or 3d: output o takes tap r from the input at
    (o + padding - r * dilation) / stride, where that is one of its indices.
    """
    dims = x.ndim - 2
    steps, pads, spread = each(stride, dims), each(padding, dims), each(dilation, dims)
    extra = each(output_padding, dims)
    sizes, source = [], []
    for d in range(dims):
        kernel, size = weight.shape[2 + d], x.shape[2 + d]
        count = (size - 1) * steps[d] - 2 * pads[d] + spread[d] * (kernel - 1) + extra[d] + 1
        sizes.append(count)
        reads = [np.arange(count) + pads[d] - r * spread[d] for r in range(kernel)]
        source.append(
            [
                np.where((i % steps[d] == 0) & (i >= 0) & (i < size * steps[d]), i // steps[d], -1)
                for i in reads
            ]
        )
    in_channels, out, *kernel_sizes = weight.shape
    turned = weight.reshape(groups, in_channels // groups, out, *kernel_sizes).swapaxes(1, 2)
    turned = turned.reshape(groups * out, in_channels // groups, *kernel_sizes)
    return _gathered(x, turned, bias, groups, sizes, source, absent=True)
