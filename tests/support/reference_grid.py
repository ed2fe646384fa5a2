"""R8 at the points of a grid, point by point, and the grid of an affine map by R1, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tests.support.reference import Reals, fma_of, linear
from tests.support.reference_dtypes import rounded, widened
from tests.support.reference_resample import cubic_weights

OUTSIDE = -1


def padded(point: np.floating, size: int, padding_mode: str, align_corners: bool) -> np.floating:
    number = type(point)
    if padding_mode == "zeros":
        return point
    if padding_mode == "reflection":
        low = number(0 if align_corners else -0.5)
        span = number(size - 1 if align_corners else size)
        if span == 0:
            return number(0)
        place = np.fmod(abs(point - low), number(2) * span)
        point = (number(2) * span - place if place > span else place) + low
    if not point > 0:
        return number(0)
    return min(point, number(size - 1))


def whole(point: np.floating) -> np.floating:
    return np.floor(point) if np.isfinite(point) else point


def within(place: np.floating, size: int) -> int:
    return int(place) if 0 <= place < size else OUTSIDE


def taps(
    coordinate: np.floating, size: int, mode: str, padding_mode: str, align_corners: bool
) -> list[tuple[int, np.floating]]:
    """Along one dimension: index, or OUTSIDE, and weight."""
    number = type(coordinate)
    one, two = number(1), number(2)
    if align_corners:
        point = (coordinate + one) / two * number(size - 1)
    else:
        point = ((coordinate + one) * number(size) - one) / two
    if mode == "bicubic":
        before = whole(point)
        places = [
            padded(before + number(k), size, padding_mode, align_corners) for k in (-1, 0, 1, 2)
        ]
        weights = cubic_weights(point - before)
        return [(within(p, size), w) for p, w in zip(places, weights, strict=True)]
    point = padded(point, size, padding_mode, align_corners)
    if mode == "nearest":
        return [(within(np.rint(point), size), one)]
    before = whole(point)
    t = point - before
    return [(within(before, size), one - t), (within(before + one, size), t)]


def sampled(x: Reals, grid: Reals, mode: str, padding_mode: str, align_corners: bool) -> Reals:
    batch, channels, *image = x.shape
    spatial = len(image)
    fused = fma_of(x.dtype)
    result = np.zeros((batch, channels, *grid.shape[1:-1]), x.dtype)

    def element(n: int, indices: Sequence[int]) -> Reals:
        if OUTSIDE in indices:
            return np.zeros(channels, x.dtype)
        place = (slice(None), *indices)
        return x[n][place]

    def chained(n: int, chains: Sequence, indices: tuple[int, ...]) -> Reals:
        """The chain along the first dimension left, each term of which is one along the next."""
        if not chains:
            return element(n, indices)
        first, *others = chains
        if mode == "nearest":
            return chained(n, others, (*indices, first[0][0]))
        total = np.zeros(channels, x.dtype)
        for index, weight in first:
            total = fused(x.dtype.type(weight), chained(n, others, (*indices, index)), total)
        return total

    with np.errstate(all="ignore"):
        for place in np.ndindex(*grid.shape[:-1]):
            point = grid[place]
            chains = [
                taps(point[spatial - 1 - d], image[d], mode, padding_mode, align_corners)
                for d in range(spatial)
            ]
            n, *rest = place
            every = (slice(None), *rest)
            result[n][every] = chained(n, chains, ())
    return result


def grid_sample(
    x: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    values = sampled(widened(x, x.dtype), widened(grid, x.dtype), mode, padding_mode, align_corners)
    return rounded(values, x.dtype)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    values = widened(theta, theta.dtype)
    number = values.dtype.type
    spatial = size[2:]
    points = np.ones((*spatial, len(spatial) + 1), values.dtype)
    for place in np.ndindex(*spatial):
        for axis in range(len(spatial)):
            d = len(spatial) - 1 - axis
            n = spatial[d]
            divisor = max(n - 1, 1) if align_corners else n
            points[place][axis] = number(2 * place[d] + 1 - n) / number(divisor)
    rows = points.reshape(-1, points.shape[-1])
    grids = [linear(rows, matrix).reshape(*spatial, -1) for matrix in values]
    return rounded(np.stack(grids), theta.dtype)
