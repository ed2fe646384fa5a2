"""Detectors of few channels, and one that nobody trained: it gives what a test tells it to."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bninv.detection import Images
from bninv.loading.detectors import prepare_untrained

SIDE = 64


class Told(nn.Module):
    """A detector whose result for an image is its own, until it has neighbours: then `change` acts.

    Two boxes and more, far from each other, that follow from the image's mean.
    """

    def __init__(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None):
        super().__init__()
        self.change = change

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        results = [self.detect(image) for image in images]
        if self.change is not None and len(images) > 1:
            results = [self.change(result) for result in results]
        return results

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        shift = image.mean().nan_to_num(0.0, 0.0, 0.0)
        corners = torch.tensor([[2.0, 2, 9, 9], [20, 20, 30, 40], [40, 2, 60, 22], [2, 40, 22, 60]])
        n = len(corners)
        return {
            "boxes": corners + shift,
            "labels": torch.arange(1, n + 1),
            "scores": torch.linspace(0.9, 0.3, n) + 0.01 * shift,
            "masks": torch.arange(n * 64.0).reshape(n, 1, 8, 8) + shift,
            "keypoints": corners.reshape(n, 2, 2) + shift,
        }


def backbone(out_channels: int = 8) -> Any:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, out_channels, 3, stride=4, padding=1),
        nn.ReLU(),
    )
    net.out_channels = out_channels  # type: ignore[assignment]
    return net


def tiny(name: str = "faster_rcnn", seed: int = 0, side: int = SIDE) -> Any:
    """A detector of torchvision's own parts, with random weights; finds dozens of boxes."""
    detection = pytest.importorskip("torchvision.models.detection")
    anchor_utils = pytest.importorskip("torchvision.models.detection.anchor_utils")
    torch.manual_seed(seed)
    anchors = anchor_utils.AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),))
    sizes: dict[str, Any] = {"min_size": side, "max_size": side}
    one_stage = {"num_classes": 4, "detections_per_img": 20, "topk_candidates": 40, **sizes}
    rcnn = {"rpn_pre_nms_top_n_test": 30, "rpn_post_nms_top_n_test": 10, **sizes}
    rcnn |= {"rpn_anchor_generator": anchors, "box_detections_per_img": 20}
    faster = importlib.import_module("torchvision.models.detection.faster_rcnn")
    box = {"box_head": faster.TwoMLPHead(8 * 49, 16)}
    if name == "retinanet":
        model = detection.RetinaNet(backbone(32), anchor_generator=anchors, **one_stage)
    elif name == "fcos":
        one = anchor_utils.AnchorGenerator(((16,),), ((1.0,),))
        model = detection.FCOS(backbone(32), anchor_generator=one, **one_stage)
    elif name == "mask_rcnn":
        module = importlib.import_module("torchvision.models.detection.mask_rcnn")
        head = {
            "mask_head": module.MaskRCNNHeads(8, (8,), 1),
            "mask_predictor": module.MaskRCNNPredictor(8, 8, 4),
            "box_predictor": faster.FastRCNNPredictor(16, 4),
        }
        model = detection.MaskRCNN(backbone(), **box, **head, **rcnn)
    elif name == "keypoint_rcnn":
        module = importlib.import_module("torchvision.models.detection.keypoint_rcnn")
        head = {
            "keypoint_head": module.KeypointRCNNHeads(8, (8,)),
            "keypoint_predictor": module.KeypointRCNNPredictor(8, 5),
            "box_predictor": faster.FastRCNNPredictor(16, 2),
        }
        model = detection.KeypointRCNN(backbone(), **box, **head, **rcnn)
    else:
        predictor = faster.FastRCNNPredictor(16, 4)
        model = detection.FasterRCNN(backbone(), box_predictor=predictor, **box, **rcnn)
    prepare_untrained(model, side)
    with torch.no_grad():
        for parameter in model.parameters():  # heads start so small that nothing differs
            parameter.copy_(torch.randn(parameter.shape) / max(4, parameter[0].numel()) ** 0.5)
    return model.eval()


def pictures(count: int = 3, *, side: int = SIDE, seed: int = 1) -> Images:
    """Images of one size."""
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.rand(3, side, side, generator=generator) for _ in range(count))


def shapes() -> Images:
    """Square, landscape and portrait images, and a small one."""
    generator = torch.Generator().manual_seed(2)
    sizes = ((64, 64), (32, 64), (64, 40), (20, 24))
    return Images(torch.rand(3, *size, generator=generator) for size in sizes)
