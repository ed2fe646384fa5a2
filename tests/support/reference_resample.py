"""R8 in NumPy: one output index at a time along each dimension, the chains over whole arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tests.support.reference import Reals, fma_of
from tests.support.reference_dtypes import rounded, widened

# Of one dimension: each output index's taps, as (index, weight); None: it stays as it is.
Taps = list[list[tuple[int, Any]]] | None


def near(x: np.floating, a: np.floating) -> np.floating:
    one = x.dtype.type
    return ((a + one(2)) * x - (a + one(3))) * x * x + one(1)


def far(x: np.floating, a: np.floating) -> np.floating:
    one = x.dtype.type
    return ((a * x - one(5) * a) * x + one(8) * a) * x - one(4) * a


def cubic_weights(t: np.floating) -> list[np.floating]:
    one, a = t.dtype.type(1), t.dtype.type(-0.75)
    return [far(t + one, a), near(t, a), near(one - t, a), far((one - t) + one, a)]


def step_of(number: type, size: int, out: int, scale: float, align_corners: bool) -> np.floating:
    if align_corners:
        return number(size - 1) / number(out - 1) if out > 1 else number(0)
    return number(1 / scale) if scale > 0 else number(size) / number(out)


def taps(
    dtype: np.dtype, size: int, out: int, scale: float, cubic: bool, align: bool, antialias: bool
) -> Taps:
    number = dtype.type
    step = step_of(number, size, out, scale, align)
    if antialias:
        return None if out == size else [filtered(number, size, step, i, cubic) for i in range(out)]
    if out == size and not cubic:
        return None
    result = []
    for i in range(out):
        half = number(0.5)
        place = step * number(i) if align else step * (number(i) + half) - half
        if not cubic:
            place = max(place, number(0))
        before = min(math.floor(place), size - 1)
        t = min(max(place - number(before), number(0)), number(1))
        weights = cubic_weights(t) if cubic else [number(1) - t, t]
        first = before - 1 if cubic else before
        result.append([(min(max(first + k, 0), size - 1), w) for k, w in enumerate(weights)])
    return result


def filtered(
    number: type, size: int, step: np.floating, i: int, cubic: bool
) -> list[tuple[int, np.floating]]:
    """The taps of `antialias`."""
    half, one = number(0.5), number(1)
    radius = number(2 if cubic else 1)
    support = radius * step if step >= 1 else radius
    inverse = one / step if step >= 1 else one
    center = step * (number(i) + half)
    first = max(int(center - support + half), 0)
    last = min(int(center + support + half), size)
    count = min(max(last - first, 0), 2 * math.ceil(support) + 1)
    weights = []
    total = number(0)
    for k in range(count):
        x = abs((number(first + k) - center + half) * inverse)
        if not cubic:
            weight = one - x if x < 1 else number(0)
        else:
            a = number(-0.5)
            weight = near(x, a) if x < 1 else far(x, a) if x < 2 else number(0)
        weights.append(weight)
        total = total + weight
    if total != 0:
        weights = [weight / total for weight in weights]
    return [(first + k, weight) for k, weight in enumerate(weights)]


def along(x: Reals, axis: int, chains: Taps) -> Reals:
    """A chain of fma over each output index's taps, from +0."""
    if chains is None:
        return x
    fused = fma_of(x.dtype)
    shape = (*x.shape[:axis], len(chains), *x.shape[axis + 1 :])
    result = np.zeros(shape, x.dtype)
    for i, chain in enumerate(chains):
        total = np.zeros((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)
        for index, weight in chain:
            total = fused(x.take(index, axis), x.dtype.type(weight), total)
        result[(slice(None),) * axis + (i,)] = total
    return result


def resample(
    x: Reals,
    output_size: Sequence[int],
    scale_factors: Sequence[float] = (),
    mode: str = "linear",
    align_corners: bool = False,
    antialias: bool = False,
) -> Reals:
    """As torch.ops.bninv.resample: the last dimension first."""
    spatial = len(output_size)
    scales = scale_factors or [0.0] * spatial
    for d in reversed(range(spatial)):
        chains = taps(
            x.dtype,
            x.shape[d + 2],
            output_size[d],
            scales[d],
            mode == "cubic",
            align_corners,
            antialias,
        )
        x = along(x, d + 2, chains)
    return x


def interpolate(
    x: Reals,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "bilinear",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Reals:
    """As torch.nn.functional.interpolate in the modes of R8."""
    spatial = x.ndim - 2
    scales: list[float] = []
    if size is None:
        assert scale_factor is not None
        listed = (
            [scale_factor] * spatial if isinstance(scale_factor, (int, float)) else scale_factor
        )
        sizes = [int(n * s) for n, s in zip(x.shape[2:], listed, strict=True)]
        scales = [] if recompute_scale_factor else list(listed)
    else:
        sizes = [size] * spatial if isinstance(size, int) else list(size)
    kind = "cubic" if mode == "bicubic" else "linear"
    return resample(x, sizes, scales, kind, bool(align_corners), antialias)


def interpolated(x: Tensor, *args: Any, **options: Any) -> Tensor:
    """`interpolate` of a tensor of any dtype."""
    values = interpolate(widened(x, x.dtype), *args, **options)
    return rounded(values, x.dtype)
