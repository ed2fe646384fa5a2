"""torchvision's `batched_nms`, named in the methods of a patched model, is R11."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import ops
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms
from torchvision.ops import boxes as box_ops

import bninv
import bninv.functional as F
from bninv.modules.base import stock_class
from tests.support.boxes import hostile_boxes
from tests.support.properties import assert_bits, normal


class Recorder(TorchDispatchMode):
    """Counts the calls of bninv's operator that have classes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "bninv::nms":
            self.count += len(args) > 3 and args[3] is not None
        return func(*args, **(kwargs or {}))


class Names(nn.Module):
    """Every way to name the function; `kind` chooses one."""

    def forward(self, boxes: Tensor, scores: Tensor, idxs: Tensor, kind: int) -> Tensor:
        if kind == 0:
            return batched_nms(boxes, scores, idxs, 0.3)
        if kind == 1:
            return ops.batched_nms(boxes, scores, idxs, iou_threshold=0.3)
        if kind == 2:
            return torchvision.ops.boxes.batched_nms(boxes, scores, idxs, 0.3)
        return self.in_a_method(boxes, scores, idxs)

    def in_a_method(self, *tensors: Tensor, iou_threshold: float = 0.3) -> Tensor:
        assert ops.box_area is torchvision.ops.box_area
        return box_ops.batched_nms(*tensors, iou_threshold)


class Derived(Names):
    pass


KINDS = range(4)


def far_boxes() -> tuple[Tensor, Tensor, Tensor]:
    """Those that are moved apart are rounded: stock keeps others."""
    boxes, scores, _ = hostile_boxes(8, 200, torch.float32)
    boxes = boxes.nan_to_num().clamp(-30, 30) / 100
    boxes[0] = torch.tensor([1e7, 1e7, 1e7 + 1, 1e7 + 1])
    return boxes, scores.nan_to_num().clamp(-1, 1), torch.arange(200) % 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [Names, Derived])
def test_every_way_to_name_it(cls: type[Names], kind: int) -> None:
    arguments = far_boxes()
    expected = F.batched_nms(*arguments, 0.3)
    assert not torch.equal(batched_nms(*arguments, 0.3).sort().values, expected.sort().values)
    model = bninv.patch(cls().eval())
    for patched in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_bits(patched(*arguments, kind), expected)
        assert_bits(patched.in_a_method(*arguments), expected)
        assert list(bninv.uncovered(patched)) == []
    stock = bninv.unpatch(model)
    assert_bits(stock(*arguments, kind), batched_nms(*arguments, 0.3))


def test_region_proposals() -> None:
    torch.manual_seed(0)
    anchors = AnchorGenerator(((8,), (16,)), ((0.5, 1.0, 2.0),) * 2)
    head = RPNHead(4, 3)
    counts = {"training": 300, "testing": 300}
    stock = RegionProposalNetwork(anchors, head, 0.7, 0.3, 8, 0.5, counts, counts, 0.6).eval()
    before = vars(RegionProposalNetwork).copy()
    model = bninv.patch(copy.deepcopy(stock))
    features = {"0": normal("0", 3, 4, 16, 16), "1": normal("1", 3, 4, 8, 8)}
    images = ImageList(torch.zeros(3, 3, 64, 64), [(64, 64), (60, 50), (64, 64)])
    with torch.no_grad(), Recorder() as recorder:
        proposals, _ = model(images, features)
        assert recorder.count == 3
        for i, size in enumerate(images.image_sizes):
            one = ImageList(images.tensors[i : i + 1], [size])
            alone, _ = model(one, {name: x[i : i + 1] for name, x in features.items()})
            assert_bits(proposals[i], alone[0])
        assert list(bninv.uncovered(model)) == []
    assert vars(RegionProposalNetwork).copy() == before
    with torch.no_grad():
        expected, _ = stock(images, features)
    for own, other in zip(proposals, expected, strict=True):
        assert own.shape == other.shape
        # Scores next to each other may have changed places.
        assert torch.isclose(own, other, rtol=1e-4, atol=1e-3).float().mean() > 0.9


def test_what_the_operator_does_not_take_is_stocks() -> None:
    boxes, scores, idxs = far_boxes()
    model = bninv.patch(Names().eval())
    found = model(boxes, scores, idxs.float(), 0)
    assert_bits(found, batched_nms(boxes, scores, idxs.float(), 0.3))
    with pytest.raises(TypeError):
        model.in_a_method(boxes)
    model.train()  # with gradients a patched module does what the stock one does
    assert_bits(model(boxes, scores, idxs, 0), batched_nms(boxes, scores, idxs, 0.3))
    with torch.no_grad():
        assert_bits(model(boxes, scores, idxs, 0), F.batched_nms(boxes, scores, idxs, 0.3))


def test_a_method_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores, idxs = far_boxes()
    model = bninv.patch(Names().eval())
    monkeypatch.setattr(Names, "in_a_method", lambda self, *tensors: box_ops.box_area(tensors[0]))
    assert_bits(model(boxes, scores, idxs, 3), box_ops.box_area(boxes))


def test_without_the_name_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, _, _ = hostile_boxes(8, 60, torch.float32)

    class Own(nn.Module):
        def forward(self, boxes: Tensor) -> Tensor:
            return self.batched_nms(boxes)

        def batched_nms(self, boxes: Tensor) -> Tensor:
            return boxes + 1

    for gone in (False, True):
        if gone:
            monkeypatch.delitem(sys.modules, "torchvision.ops.boxes")
        model = bninv.patch(Own().eval())
        assert stock_class(model) is Own
        assert_bits(model(boxes), boxes + 1)
