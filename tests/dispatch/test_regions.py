"""torchvision's operators on regions become bninv's, in its modules and in detectors."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

import bninv
import bninv.functional as F
from tests.support.boxes import OPERATORS, corners, of_images
from tests.support.properties import assert_bits, normal

own = torch.ops.bninv
TV = torchvision.ops
STOCK = torch.ops.torchvision


class Heads(nn.Module):
    """Every way that torchvision offers to the four operators."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = TV.MultiScaleRoIAlign(["0", "1"], 3, 2)
        self.align, self.pool = TV.RoIAlign(2, 0.5, -1, True), TV.RoIPool(2, 0.5)
        self.ps_align, self.ps_pool = TV.PSRoIAlign(2, 0.5, 2), TV.PSRoIPool(2, 0.5)

    def forward(self, x: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        levels = {"0": x, "1": x[:, :, ::2, ::2].contiguous()}
        return [
            self.levels(levels, boxes, [(32, 48)] * len(boxes)),
            *(
                module(x, boxes).flatten(1)
                for module in (self.align, self.pool, self.ps_align, self.ps_pool)
            ),
            STOCK.ps_roi_align.default(
                x, TV._utils.convert_boxes_to_roi_format(boxes), 0.5, 2, 2, 2
            )[1],
        ]


def test_of_torchvisions_operators_none_is_uncovered() -> None:
    model = bninv.patch(Heads().eval())
    x = normal("x", 2, 8, 16, 24)
    boxes = [corners(i, 5, 32, 48).abs() for i in range(2)]
    for own_boxes in boxes:
        own_boxes[:, 2:] += own_boxes[:, :2]
    with torch.no_grad():
        results = model(x, boxes)
        stock = Heads()(x, boxes)
    assert bninv.uncovered(model) == []
    for result, expected in zip(results, stock, strict=True):
        torch.testing.assert_close(result, expected)
    assert_bits(results[1], F.roi_align(x, boxes, 2, 0.5, -1, True).flatten(1))
    assert_bits(results[3], F.ps_roi_align(x, boxes, 2, 0.5, 2).flatten(1))
    with torch.no_grad():
        for i in range(2):
            for alone, whole in zip(model(x[i : i + 1], boxes[i : i + 1]), results, strict=True):
                assert_bits(alone, whole[5 * i : 5 * i + 5])


def test_a_strict_scope_sees_the_operators() -> None:
    x, boxes = normal("x", 2, 8, 16, 24), of_images("boxes", 2, 3, 16, 24)
    expected = F.roi_pool(x, boxes, 2), own.roi_pool_argmax(x, boxes, [2, 2], 1.0)
    with bninv.invariant(strict=True), torch.no_grad():
        results = STOCK.roi_pool(x, boxes, 1.0, 2, 2)
        STOCK.roi_align.default(x, boxes, 1.0, 2, 2, -1, False)
    for result, value in zip(results, expected, strict=True):
        assert_bits(result, value)


def test_of_a_detector_nothing_is_uncovered() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 8, 1), nn.ReLU())
    backbone.out_channels = 8  # type: ignore[assignment]
    stock = torchvision.models.detection.FasterRCNN(
        backbone,
        num_classes=3,
        rpn_anchor_generator=torchvision.models.detection.rpn.AnchorGenerator(
            ((32, 64),), ((1.0,),)
        ),
        box_roi_pool=TV.MultiScaleRoIAlign(["0"], 3, 2),
        box_score_thresh=0.0,
        min_size=64,
        max_size=96,
    ).eval()
    model = bninv.patch(stock)
    with torch.no_grad():
        found = model([normal("image", 3, 64, 80)])
    assert len(found[0]["boxes"]) > 0
    assert bninv.uncovered(model) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_autocast_casts_as_torchvisions(dtype: torch.dtype) -> None:
    """roi_align alone, on the CPU: in float32, and back."""
    x, boxes = normal("x", 2, 4, 9, 8), of_images("boxes", 2, 3, 9, 8)
    for name in OPERATORS:
        narrow = x.to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            if name != "roi_align":
                result = getattr(F, name)(narrow, boxes.to(dtype), 2)
                assert_bits(
                    result,
                    getattr(own, name)(
                        narrow,
                        boxes.to(dtype),
                        [2, 2],
                        1.0,
                        *([-1] if name == "ps_roi_align" else []),
                    ),
                )
                continue
            stock = TV.roi_align(narrow, boxes, 2)
            result = F.roi_align(narrow, boxes, 2)
            with bninv.invariant(strict=True):
                assert_bits(STOCK.roi_align(narrow, boxes, 1.0, 2, 2, -1, False), result)
        assert result.dtype == stock.dtype == dtype
        wide = F.roi_align(narrow.float(), boxes, 2)
        assert_bits(result, wide.to(dtype))
        torch.testing.assert_close(result, stock)
