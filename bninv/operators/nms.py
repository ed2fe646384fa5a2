"""Suppression of overlapping boxes, rule R11."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import need_tensor, number
from bninv._autocast import widened
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The boxes that no box of a higher score overlaps too much, rule R11.

    The same on every device. Of equal scores the lower index counts as the higher one, and NaN is
    higher than every number.

    Args:
        boxes: [boxes, 4], a box being x1, y1, x2, y2.
        scores: [boxes], of the boxes' dtype.
        iou_threshold: the greatest intersection over union that is not too much.

    Returns:
        The indices of the boxes that are kept, int64, in the order of falling scores.
    """
    need_tensor("boxes", boxes)
    need_tensor("scores", scores)
    return _kept(boxes, scores, iou_threshold, None)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each class: boxes of different `idxs` do not suppress each other.

    The boxes are compared as they are given. (torchvision's function of this name moves the boxes
    of each class apart where there are few of them, which rounds them.)

    Args:
        boxes: [boxes, 4], a box being x1, y1, x2, y2.
        scores: [boxes], of the boxes' dtype.
        idxs: [boxes], integers: the class of each box.
        iou_threshold: the greatest intersection over union that is not too much.

    Returns:
        The indices of the boxes that are kept, int64, in the order of falling scores.

    Raises:
        TypeError: `idxs` is not of integers.
    """
    need_tensor("boxes", boxes)
    need_tensor("scores", scores)
    need_tensor("idxs", idxs)
    if idxs.dtype not in _INTEGERS:
        raise TypeError(f"`idxs` has dtype {idxs.dtype}; it may be torch.int64 or other integers")
    return _kept(boxes, scores, iou_threshold, idxs.to(torch.int64))


def _kept(boxes: Tensor, scores: Tensor, iou_threshold: float, idxs: Tensor | None) -> Tensor:
    boxes, scores = cast(boxes, scores)
    threshold = number(iou_threshold, "iou_threshold")
    result: Tensor = call(ops.nms.default, boxes, scores, threshold, idxs)
    return result


def cast(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """As torchvision's operator is handed them under autocast."""
    if _torch.any_autocast() and boxes.device.type in ("cpu", "cuda"):
        boxes, scores = widened(boxes.device.type, boxes, scores)
    return boxes, scores


# ---- The operator --------------------------------------------------------------------------------


def _fake(boxes: Tensor, *_: Any) -> Tensor:
    # How many are kept follows from the values.
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty([kept], dtype=torch.int64)


def _draw(draw: Draw) -> list[Any]:
    count = draw.size(min(2049, max(1, draw.most // 5)))
    idxs = torch.tensor([draw.random.randrange(3) for _ in range(count)])
    threshold = draw.random.choice([0.0, 0.3, 0.7])
    return [draw.input(count, 4), draw.input(count), threshold, draw.maybe(idxs)]


OPERATORS = [
    Operator(
        "nms",
        "(Tensor boxes, Tensor scores, float iou_threshold, Tensor? idxs=None) -> Tensor",
        _fake,
        _draw,
    )
]


# ---- The signatures of PyTorch and of torchvision ------------------------------------------------


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    dets, scores = cast(dets, scores)
    need(dets.dtype == scores.dtype)
    return nms(dets, scores, iou_threshold)


ATEN: dict[str, Adapter] = {}
PYTHON: dict[str, Adapter] = {}
TORCHVISION: dict[str, Adapter] = {"nms": _nms}

__all__ = ["batched_nms", "nms"]
