"""Deformable convolution, pixel by pixel, in NumPy: taps by R8's chains, the product by R1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tests.support.reference import Reals, dot, fma_of
from tests.support.reference_dtypes import rounded, widened


def axis(place: np.floating, size: int) -> list[tuple[int | None, np.floating]]:
    """Along one dimension: an index, or None outside, and a weight."""
    if np.isnan(place):
        return [(None, place), (None, place)]
    before = int(np.floor(place))
    t = place - type(place)(before)
    indices = [i if 0 <= i < size else None for i in (before, before + 1)]
    return list(zip(indices, (type(place)(1) - t, t), strict=True))


def tap(image: Reals, y: np.floating, x: np.floating) -> Reals:
    """[channels] of an image [channels, height, width] at a place."""
    channels, height, width = image.shape
    total = np.zeros(channels, image.dtype)
    if y <= -1 or y >= height or x <= -1 or x >= width:
        return total
    fused, number = fma_of(image.dtype), image.dtype.type
    for i, row_weight in axis(y, height):
        row = np.zeros(channels, image.dtype)
        for j, weight in axis(x, width):
            exists = i is not None and j is not None
            value = image[:, i, j] if exists else np.zeros(channels, image.dtype)
            row = fused(number(weight), value, row)
        total = fused(number(row_weight), row, total)
    return total


def taps(
    x: Reals,
    offset: Reals,
    mask: Reals | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Reals:
    """[batch, out_h, out_w, kernel_h, kernel_w, channels]."""
    batch, channels, *_ = x.shape
    out, number = offset.shape[2:], x.dtype.type
    groups = offset.shape[1] // (2 * kernel_size[0] * kernel_size[1])
    share = channels // groups
    found = np.zeros((batch, *out, *kernel_size, channels), x.dtype)
    with np.errstate(all="ignore"):
        for n, oy, ox, r, s, g in np.ndindex(batch, *out, *kernel_size, groups):
            k = (g * kernel_size[0] + r) * kernel_size[1] + s
            base = [
                o * st - p + i * d
                for o, i, st, p, d in zip((oy, ox), (r, s), stride, padding, dilation, strict=True)
            ]
            place = [number(base[a]) + offset[n, 2 * k + a, oy, ox] for a in (0, 1)]
            part = slice(g * share, (g + 1) * share)
            value = tap(x[n, part], place[0], place[1])
            if mask is not None:
                value = value * mask[n, k, oy, ox]
            found[n, oy, ox, r, s, part] = value
    return found


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    dtype = x.dtype
    arrays = [None if t is None else widened(t, dtype) for t in (x, offset, weight, bias, mask)]
    xs, offsets, weights, biases, masks = arrays
    assert xs is not None and offsets is not None and weights is not None
    values = taps(xs, offsets, masks, list(weight.shape[2:]), stride, padding, dilation)
    values = widened(rounded(values, dtype), dtype)
    groups = x.shape[1] // weight.shape[1]
    parts = []
    for g in range(groups):
        terms = values[..., g * weight.shape[1] : (g + 1) * weight.shape[1]]
        terms = terms.reshape(*terms.shape[:3], 1, -1)
        share = len(weights) // groups
        rows = weights[g * share : (g + 1) * share].transpose(0, 2, 3, 1).reshape(share, -1)
        own = None if biases is None else biases[g * share : (g + 1) * share]
        parts.append(dot(terms, rows, own))
    return rounded(np.moveaxis(np.concatenate(parts, -1), -1, 1), dtype).contiguous()


def seeded_offsets(shape: Sequence[int], label: int, dtype: torch.dtype) -> Tensor:
    """Between pixels mostly; some of a whole number, some far outside."""
    rng = np.random.default_rng(label)
    values = rng.standard_normal(tuple(shape)) * 1.5
    whole = rng.random(tuple(shape)) < 0.2
    values = np.where(whole, np.rint(values), values)
    values = np.where(rng.random(tuple(shape)) < 0.05, values * 100, values)
    return torch.from_numpy(values).to(dtype)
