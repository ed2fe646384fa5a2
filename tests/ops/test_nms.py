"""Suppression of overlapping boxes is R11."""

from __future__ import annotations

import random

import pytest
import torch
import torchvision
from torch import Tensor

import bninv
import bninv.functional as F
from tests.support import reference_nms
from tests.support.boxes import THRESHOLDS, hostile_boxes
from tests.support.properties import (
    GRAD_MODES,
    assert_bits,
    assert_equals_at_each_level,
    expansions,
    layouts,
)
from tests.support.reference_dtypes import FLOATING

OWN_OF_STOCK = (torch.float32, torch.float64)  # on the CPU stock takes no others
stock_nms = torchvision.ops.nms


def problems(counts: tuple[int, ...]) -> list[tuple[int, int, float]]:
    choose = random.Random(0)
    return [(s, choose.choice(counts), choose.choice(THRESHOLDS)) for s in range(1000)]


def test_keeps_what_stock_keeps() -> None:
    for seed, count, threshold in problems((0, 1, 2, 5, 17, 64, 65, 130, 300)):
        for dtype in OWN_OF_STOCK:
            boxes, scores, _ = hostile_boxes(seed, count, dtype)
            expected = stock_nms(boxes, scores, threshold)
            found = F.nms(boxes, scores, threshold)
            assert torch.equal(found, expected), (seed, count, threshold, dtype)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_equals_reference(dtype: torch.dtype) -> None:
    for seed, count, threshold in problems((0, 1, 2, 5, 17, 64, 65, 130))[:250]:
        boxes, scores, idxs = hostile_boxes(seed, count, dtype)
        for classes in (None, idxs):
            expected = torch.tensor(
                reference_nms.nms(boxes, scores, threshold, classes), dtype=torch.int64
            )
            assert_equals_at_each_level(
                lambda a=(boxes, scores, threshold, classes): torch.ops.bninv.nms(*a),
                expected,
                f"seed {seed}, {count} boxes, {threshold}",
            )


def test_batched_is_the_function_class_by_class() -> None:
    vanilla = torchvision.ops.boxes._batched_nms_vanilla
    for seed, count, threshold in problems((1, 2, 5, 17, 64, 65, 130))[:300]:
        boxes, scores, idxs = hostile_boxes(seed, count, torch.float32)
        found = F.batched_nms(boxes, scores, idxs, threshold)
        expected = vanilla(boxes, scores, idxs, threshold)
        # Its last sort leaves open which of two equal scores comes first.
        assert torch.equal(found.sort().values, expected.sort().values), seed
        place = torch.tensor(reference_nms.order_of(scores.numpy())).argsort()
        assert (place[found].diff() > 0).all(), seed
        for one in idxs.unique():
            members = torch.where(idxs == one)[0]
            alone = members[F.nms(boxes[members], scores[members], threshold)]
            assert torch.equal(found[idxs[found] == one], alone), seed


def test_classes_are_any_integers() -> None:
    boxes, scores, idxs = hostile_boxes(3, 80, torch.float32)
    expected = F.batched_nms(boxes, scores, idxs, 0.3)
    for dtype in (torch.int32, torch.int16, torch.int8):
        assert torch.equal(F.batched_nms(boxes, scores, idxs.to(dtype), 0.3), expected)
    far = torch.tensor([2**62, -(2**63), 0, 1])[idxs + 1]
    assert torch.equal(F.batched_nms(boxes, scores, far, 0.3), expected)
    alone = F.batched_nms(boxes, scores, torch.arange(80), -1.0)
    assert len(alone) == 80


def test_overlap_is_compared_as_a_real_number() -> None:
    """1/3 in binary32 is greater than 1/3 in binary64."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]])  # one third of the union
    scores = torch.tensor([1.0, 0.5])
    third = torch.tensor(1 / 3).item()
    assert third > 1 / 3
    assert F.nms(boxes, scores, 1 / 3).tolist() == [0]
    assert F.nms(boxes, scores, third).tolist() == [0, 1]


def test_layouts_threads_and_flushed_subnormals() -> None:
    boxes, scores, idxs = hostile_boxes(11, 90, torch.float32)
    expected = F.batched_nms(boxes, scores, idxs, 0.3)
    for name, view in layouts(boxes):
        assert_equals_at_each_level(
            lambda v=view: F.batched_nms(v, scores, idxs, 0.3), expected, name
        )
    for name, view in layouts(scores):
        assert_bits(F.batched_nms(boxes, view, idxs, 0.3), expected, name)
    for _, view in expansions(boxes):
        assert_bits(F.nms(view, scores, 0.3), F.nms(view.contiguous(), scores, 0.3))
    many = torch.arange(3000) % 700
    boxes, scores, _ = hostile_boxes(2, 3000, torch.float32)
    torch.set_num_threads(1)
    expected = F.batched_nms(boxes, scores, many, 0.1)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_bits(F.batched_nms(boxes, scores, many, 0.1), expected)
    least = torch.finfo(torch.float32).smallest_normal / 8
    boxes, scores = boxes[:200] * least, scores[:200].round(decimals=1) * least
    expected = F.nms(boxes, scores, 0.2)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals to zero")
    try:
        assert_bits(F.nms(boxes, scores, 0.2), expected)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("mode", GRAD_MODES)
def test_of_torchvisions_functions_none_is_uncovered(mode: str) -> None:
    class Model(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
            operator = torch.ops.torchvision.nms
            return (
                torchvision.ops.nms(boxes, scores, 0.5),
                operator(boxes, scores, 0.5),
                operator.default(boxes, scores, iou_threshold=0.5),
            )

    model = bninv.patch(Model().eval())
    boxes, scores, _ = hostile_boxes(8, 60, torch.float32)
    with GRAD_MODES[mode]():
        for found in model(boxes, scores):
            assert_bits(found, F.nms(boxes, scores, 0.5))
    assert list(bninv.uncovered(model)) == []


def test_strict_and_half_precision() -> None:
    boxes, scores, _ = hostile_boxes(8, 60, torch.float32)
    with bninv.invariant(strict=True):
        assert_bits(stock_nms(boxes, scores, 0.5), F.nms(boxes, scores, 0.5))
        for dtype in (torch.float16, torch.bfloat16):  # which stock refuses
            narrow = boxes.to(dtype), scores.to(dtype)
            found = stock_nms(*narrow, 0.5)
            assert_bits(found, stock_nms(narrow[0].float(), narrow[1].float(), 0.5))


def test_autocast_computes_in_float32() -> None:
    boxes, scores, _ = hostile_boxes(8, 60, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = stock_nms(boxes.half(), scores, 0.5)
        with bninv.invariant(strict=True):
            assert_bits(stock_nms(boxes.half(), scores, 0.5), expected)
        assert_bits(F.nms(boxes.half(), scores, 0.5), expected)


def test_errors_name_the_argument() -> None:
    boxes, scores, idxs = hostile_boxes(8, 6, torch.float32)
    good = {"boxes": boxes, "scores": scores, "idxs": idxs, "iou_threshold": 0.5}
    for changed, word in (
        ({"boxes": boxes[:, :3]}, "boxes"),
        ({"boxes": boxes[None]}, "boxes"),
        ({"boxes": boxes.int()}, "boxes"),
        ({"boxes": None}, "boxes"),
        ({"scores": scores[:5]}, "scores"),
        ({"scores": scores[None]}, "scores"),
        ({"scores": scores.double()}, "scores"),
        ({"scores": [0.5] * 6}, "scores"),
        ({"idxs": idxs[:5]}, "idxs"),
        ({"idxs": idxs[:, None]}, "idxs"),
        ({"idxs": scores}, "idxs"),
        ({"idxs": None}, "idxs"),
        ({"iou_threshold": "half"}, "iou_threshold"),
        ({"iou_threshold": None}, "iou_threshold"),
    ):
        with pytest.raises((RuntimeError, TypeError, ValueError), match=rf"`{word}`"):
            F.batched_nms(**{**good, **changed})
        if word != "idxs":
            arguments = {k: v for k, v in {**good, **changed}.items() if k != "idxs"}
            with pytest.raises((RuntimeError, TypeError, ValueError), match=rf"`{word}`"):
                F.nms(**arguments)
