"""Segmenters and detectors of other packages, as their users build them; of those installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv._structure import leaves
from tests.support.properties import assert_bits, normal

SIDE, COUNT = 96, 3


def check_batches(model: nn.Module) -> None:
    """Strict: whatever is not covered is an error."""
    model, images = bninv.patch(model.eval(), strict=True), normal("x", COUNT, 3, SIDE, SIDE)

    def run(samples: list[int]) -> dict[str, Tensor]:
        found = dict(leaves(model(images[samples])))
        return {path: t for path, t in found.items() if t.dim() and len(t) == len(samples)}

    with torch.inference_mode():
        alone = [run([i]) for i in range(COUNT)]
        assert all(alone)
        for batch in ([2, 0], [1, 2, 0]):
            whole = run(batch)
            assert whole.keys() == alone[0].keys()
            for path, tensor in whole.items():
                for place, i in enumerate(batch):
                    assert_bits(tensor[place], alone[i][path][0], f"{path} of {i} in {batch}")


SEGMENTERS = {
    "Unet": {"encoder_name": "resnet18"},
    "UnetPlusPlus": {"encoder_name": "tu-test_resnet"},
    "FPN": {"encoder_name": "tu-mobilenetv3_small_050"},
    "DeepLabV3Plus": {"encoder_name": "tu-resnet18"},
    "Linknet": {"encoder_name": "resnet18"},
    "PSPNet": {"encoder_name": "resnet18"},
    "MAnet": {"encoder_name": "resnet18"},
    "UPerNet": {"encoder_name": "resnet18"},
    "Segformer": {"encoder_name": "mit_b0"},
    "DPT": {"encoder_name": "tu-vit_tiny_patch16_224", "dynamic_img_size": True},
}


# In `make test`; the others share most of their code.
QUICK = ("Unet", "DeepLabV3Plus", "Segformer")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive)
        for name in SEGMENTERS
    ],
)
@pytest.mark.filterwarnings("ignore")  # advice of the package's own
def test_segmentation_models_pytorch(name: str) -> None:
    package = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    check_batches(package.create_model(name, encoder_weights=None, **SEGMENTERS[name]))


def detr(package: Any) -> nn.Module:
    backbone = package.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    layers = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    layers |= {f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")}
    layers |= {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
    given = {"backbone_config": backbone, "backbone": None, "use_timm_backbone": False}
    config = package.DetrConfig(
        **given, **layers, use_pretrained_backbone=False, d_model=32, num_queries=20
    )
    model: nn.Module = package.DetrForObjectDetection(config)
    return model


def yolos(package: Any) -> nn.Module:
    config = package.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[SIDE, SIDE],
        num_detection_tokens=20,
    )
    model: nn.Module = package.YolosForObjectDetection(config)
    return model


def segformer(package: Any) -> nn.Module:
    model: nn.Module = package.SegformerForSemanticSegmentation(package.SegformerConfig())
    return model


def mask2former(package: Any) -> nn.Module:
    backbone = package.SwinConfig(
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        image_size=SIDE,
    )
    config = package.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        dim_feedforward=64,
        num_queries=10,
    )
    model: nn.Module = package.Mask2FormerForUniversalSegmentation(config)
    return model


@pytest.mark.parametrize("make", [detr, yolos, segformer, mask2former])
@pytest.mark.filterwarnings("ignore")
def test_transformers(make: Callable[[Any], nn.Module]) -> None:
    package = pytest.importorskip("transformers")
    torch.manual_seed(0)
    check_batches(make(package))
