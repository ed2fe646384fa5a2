"""R10: regions of an image, bin by bin, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.reference import Reals, fma_of, sum32
from tests.support.reference_dtypes import rounded, widened

MOST_POINTS = 2**30
FARTHEST = 2**30


class Points:
    """roi_align's along one dimension."""

    def __init__(
        self, low: Any, high: Any, aligned: bool, bins: int, sampling_ratio: int, size: int
    ) -> None:
        self.number = number = type(low)
        offset = number(0.5 if aligned else 0)
        self.start = low - offset
        length = (high - offset) - self.start
        self.exists = bool(np.isfinite(self.start) and np.isfinite(length))
        if not aligned:
            length = max(length, number(1))
        self.bin = length / number(bins)
        self.size = size
        self.points = sampling_ratio
        if sampling_ratio <= 0 and self.exists:
            self.points = int(min(max(np.ceil(self.bin), 0), MOST_POINTS))

    def _candidates(self, i: int) -> Iterator[int]:
        """All points, or of very many those that may lie inside."""
        if self.points <= 2**10:
            return iter(range(self.points))
        step = float(self.bin) / self.points
        base = float(self.start) + i * float(self.bin)
        ends = sorted((edge - base) / step for edge in (-2.0, self.size + 1.0))
        slack = 64 + 1e-5 * max(map(abs, ends))
        first, last = max(0, int(ends[0] - slack)), min(self.points, int(ends[1] + slack))
        return iter(range(first, last))

    def taps(self, i: int) -> list[tuple[int, Any]]:
        number, last = self.number, self.size - 1
        found = []
        for k in self._candidates(i):
            step = (number(k) + number(0.5)) * self.bin / number(self.points)
            point = (self.start + number(i) * self.bin) + step
            if point < -1 or point > self.size:
                continue
            point = max(point, number(0))
            b = int(point)
            t = point - number(b)
            if b >= last:
                found += [(last, number(1)), (last, number(0))]
            else:
                found += [(b, number(1) - t), (b + 1, t)]
        return found


def _corners(box: Reals, scale: float) -> tuple[int, list[Any]]:
    """The image's index, and (top, bottom), (left, right)."""
    number = box.dtype.type
    x1, y1, x2, y2 = (value * number(scale) for value in box[1:])
    return int(box[0]), [(y1, y2), (x1, x2)]


def _regions(x: Reals, boxes: Reals, scale: float) -> Iterator[tuple[int, Any, list[Any]]]:
    for k, box in enumerate(boxes):
        # None: a region whose image does not exist, which only a GPU is given.
        exists = bool(np.isfinite(box[0])) and 0 <= int(box[0]) < len(x)
        index, corners = _corners(box, scale) if exists else (0, [])
        yield k, x[index] if exists else None, corners


def _channels(image: Reals, bins: tuple[int, int], i: int, j: int, by_position: bool) -> Reals:
    if not by_position:
        return image
    return image[i * bins[1] + j :: bins[0] * bins[1]]


def aligned_regions(
    x: Reals,
    boxes: Reals,
    bins: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool = True,
    by_position: bool = False,
) -> Reals:
    """roi_align, or ps_roi_align."""
    fused, number = fma_of(x.dtype), x.dtype.type
    channels = x.shape[1] // (bins[0] * bins[1] if by_position else 1)
    result = np.full((len(boxes), channels, *bins), np.nan, x.dtype)
    with np.errstate(all="ignore"):
        for k, image, corners in _regions(x, boxes, scale):
            if image is None:
                continue
            axes = [
                Points(low, high, aligned, bins[d], sampling_ratio, x.shape[2 + d])
                for d, (low, high) in enumerate(corners)
            ]
            if not (axes[0].exists and axes[1].exists):
                continue
            count = number(max(axes[0].points * axes[1].points, 1))
            taps = [[axis.taps(i) for i in range(bins[d])] for d, axis in enumerate(axes)]
            for i, j in np.ndindex(*bins):
                own = _channels(image, bins, i, j, by_position)
                total = np.zeros(channels, x.dtype)
                for row, weight in taps[0][i]:
                    chain = np.zeros(channels, x.dtype)
                    for column, of_column in taps[1][j]:
                        chain = fused(of_column, own[:, row, column], chain)
                    total = fused(weight, chain, total)
                result[k, :, i, j] = total / count
    return result


def _whole(value: Any) -> int:
    """To the nearest integer, halves away from zero."""
    held = min(max(float(value), -FARTHEST), FARTHEST)
    whole = np.floor(abs(held))
    return int(np.copysign(whole + (abs(held) - whole >= 0.5), held))


def _windows(
    low: Any, high: Any, bins: int, beyond: int, most: int
) -> list[tuple[int, int]] | None:
    number = type(low)
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    start = _whole(low)
    length = max(_whole(high) - start + beyond, 1)
    size = number(length) / number(bins)
    windows = []
    for i in range(bins):
        first = int(np.floor(number(i) * size)) + start
        last = int(np.ceil(number(i + 1) * size)) + start
        windows.append((min(max(first, 0), most), min(max(last, 0), most)))
    return windows


def pooled_regions(
    x: Reals, boxes: Reals, bins: tuple[int, int], scale: float, is_mean: bool
) -> tuple[Reals, np.ndarray]:
    """roi_pool with its indices, or ps_roi_pool."""
    number = x.dtype.type
    channels = x.shape[1] // (bins[0] * bins[1] if is_mean else 1)
    result = np.full((len(boxes), channels, *bins), np.nan, x.dtype)
    indices = np.full(result.shape, -1, np.int32)
    with np.errstate(all="ignore"):
        for k, image, corners in _regions(x, boxes, scale):
            if image is None:
                continue
            windows = [
                _windows(low, high, bins[d], 0 if is_mean else 1, x.shape[2 + d] - is_mean)
                for d, (low, high) in enumerate(corners)
            ]
            if windows[0] is None or windows[1] is None:
                continue
            for i, j in np.ndindex(*bins):
                (top, bottom), (left, right) = windows[0][i], windows[1][j]
                own = _channels(image, bins, i, j, is_mean)[:, top:bottom, left:right]
                flat = own.reshape(channels, -1)
                if flat.shape[1] == 0:
                    result[k, :, i, j] = 0
                elif is_mean:
                    result[k, :, i, j] = sum32(flat) / number(flat.shape[1])
                else:
                    for c in range(channels):
                        best, place = number(np.finfo(np.float32).min), -1
                        for at, value in enumerate(flat[c]):
                            if value > best:
                                best, place = value, at
                        result[k, c, i, j] = best
                        if place >= 0:
                            row, column = divmod(place, right - left)
                            indices[k, c, i, j] = (top + row) * x.shape[3] + left + column
    return result, indices


def _both(x: Tensor, boxes: Tensor) -> tuple[Reals, Reals]:
    return widened(x, x.dtype), widened(boxes, x.dtype)


def run(name: str, x: Tensor, boxes: Tensor, bins: Any, scale: float, *options: Any) -> Tensor:
    """By an operator's name and arguments."""
    values, regions = _both(x, boxes)
    bins = (bins[0], bins[1])
    if name.endswith("align"):
        by_position = name == "ps_roi_align"
        result = aligned_regions(values, regions, bins, scale, *options, by_position=by_position)
        return rounded(result, x.dtype)
    result, indices = pooled_regions(values, regions, bins, scale, name == "ps_roi_pool")
    return torch.from_numpy(indices) if name == "roi_pool_argmax" else rounded(result, x.dtype)
