"""Transformers, segmentation and video: one set of bits a sample, everything covered."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support.properties import normal

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}


def of_timm(name: str, size: int, **options: Any) -> tuple[Callable[[], nn.Module], Tensor]:
    image = normal(name, 3, 3, size, size)
    return lambda: timm.create_model(name, img_size=size, num_classes=7, **options), image


def of_torchvision(name: str, *size: int) -> tuple[Callable[[], nn.Module], Tensor]:
    model = torchvision.models.get_model_builder(name)
    options = {"weights_backbone": None} if "deeplab" in name else {}
    return lambda: model(num_classes=5, weights=None, **options), normal(name, 3, 3, *size)


MODELS = {
    "vit": of_timm("vit_tiny_patch16_224", 48, **SMALL),
    "deit distilled": of_timm("deit_tiny_distilled_patch16_224", 48, **SMALL),
    "dinov2": of_timm("vit_small_patch14_dinov2", 42, **SMALL),
    "vit, registers": of_timm("vit_small_patch14_reg4_dinov2", 42, **SMALL),
    "vit, pooled by attention": of_timm("vit_tiny_patch16_224", 48, global_pool="map", **SMALL),
    "swin": of_timm(
        "swin_tiny_patch4_window7_224", 56, embed_dim=24, depths=(1, 2), num_heads=(1, 2)
    ),
    "swin v2": of_timm(
        "swinv2_tiny_window8_256", 64, embed_dim=24, depths=(1, 2), num_heads=(1, 2)
    ),
    "cait": of_timm("cait_xxs24_224", 48, depth=2, embed_dim=48, num_heads=3),
    "maxvit": of_timm("maxvit_rmlp_pico_rw_256", 64, depths=(1, 1, 1, 1)),
    "volo": of_timm("volo_d1_224", 64),
    "deeplabv3": of_torchvision("deeplabv3_mobilenet_v3_large", 33, 49),
    "r3d": of_torchvision("r3d_18", 3, 17, 19),
    "vit of torchvision": (
        lambda: torchvision.models.vision_transformer.VisionTransformer(32, 8, 2, 3, 48, 96),
        normal("tv", 3, 3, 32, 32),
    ),
}


# What would be seen of a product, a sum or a function that stayed PyTorch's.
STOCK = {
    *(
        "addmm",
        "mm",
        "bmm",
        "baddbmm",
        "convolution",
        "_scaled_dot_product_flash_attention_for_cpu",
    ),
    *("_softmax", "_safe_softmax", "native_layer_norm", "native_batch_norm", "native_group_norm"),
    *("mean", "sum", "gelu", "silu", "sigmoid", "exp", "upsample_bilinear2d", "avg_pool2d"),
}


class Seen(TorchDispatchMode):
    """The names of PyTorch's own operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def tensor_of(output: Any) -> Tensor:
    result: Tensor = output["out"] if isinstance(output, dict) else output
    return result


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_has_one_set_of_bits(name: str) -> None:
    make, images = MODELS[name]
    torch.manual_seed(0)
    stock = make().eval()
    for parameter in stock.parameters():
        if parameter.numel() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    model = bninv.patch(copy.deepcopy(stock))
    with torch.inference_mode():
        whole = tensor_of(model(images))
        for part in (slice(0, 1), slice(2, 3), slice(1, 3)):
            assert_bitwise_equal(tensor_of(model(images[part])), whole[part])
        torch.testing.assert_close(whole, tensor_of(stock(images)), rtol=1e-3, atol=1e-3)
    assert bninv.uncovered(model) == []
    with torch.no_grad(), Seen() as mine:
        model(images[:1])
    assert not mine.names & STOCK
    with torch.no_grad(), Seen() as stocks:
        stock(images[:1])
    assert stocks.names & STOCK
