"""R11, a kept box after the other, in NumPy."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tests.support.reference import Reals
from tests.support.reference_dtypes import widened


def order_of(scores: Reals) -> list[int]:
    """NaN first, then falling; of equal ones the lower index."""
    return sorted(
        range(len(scores)), key=lambda i: (0, 0.0) if np.isnan(scores[i]) else (1, -scores[i])
    )


def greater(a: Reals, b: Reals) -> Reals:
    return np.where(b > a, b, a)


def lesser(a: Reals, b: Reals) -> Reals:
    return np.where(b < a, b, a)


def kept(boxes: Reals, scores: Reals, iou_threshold: float, idxs: np.ndarray | None) -> list[int]:
    zero = boxes.dtype.type(0)
    with np.errstate(all="ignore"):
        x1, y1, x2, y2 = boxes.T
        area = (x2 - x1) * (y2 - y1)
        left, indices = np.array(order_of(scores), int), []
        while len(left):
            i, left = left[0], left[1:]
            indices.append(int(i))
            w = greater(zero, lesser(x2[i], x2[left]) - greater(x1[i], x1[left]))
            h = greater(zero, lesser(y2[i], y2[left]) - greater(y1[i], y1[left]))
            inter = w * h
            iou = inter / ((area[i] + area[left]) - inter)
            dropped = iou.astype(np.float64) > iou_threshold
            if idxs is not None:
                dropped &= idxs[left] == idxs[i]
            left = left[~dropped]
    return indices


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, idxs: Tensor | None = None
) -> list[int]:
    return kept(
        widened(boxes, boxes.dtype),
        widened(scores, scores.dtype),
        iou_threshold,
        None if idxs is None else idxs.numpy(),
    )
