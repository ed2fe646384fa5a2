"""Networks in which chains run as one operator: the bits of the separate ones, in every dtype."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.vgg import VGG
from torch import nn

import bninv
from bninv.loading.calibration import calibrate_batch_norm, randomize_constants
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import Operators

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64
# In these every convolution begins a chain, and nothing is left that one could have taken up.
WHOLE = ("resnet18", "mobilenetv2_100", "tf_efficientnet_lite0", "torchvision:regnet_x_400mf")
# Small ones, one of each kind.
IN_ALL_DTYPES = (
    *("resnet18", "resnetv2_18", "regnetx_002", "mobilenetv3_small_050", "tf_efficientnet_lite0"),
    *("efficientnet_b0", "torchvision:densenet121", "torchvision:mobilenet_v2"),
    *("narrow vgg with BatchNorm",),
)
# Operators that a chain takes up.
FUSED_AWAY = ("conv2d", "batch_norm", "relu", "relu_", "relu6", "relu6_", "silu", "silu_")


def make(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    family, _, member = name.rpartition(":")
    model: Any
    if name.startswith("narrow"):
        model = VGG([16, "M", 32, "M", 64, "M"], num_classes=10, norm_layer=nn.BatchNorm2d)
    elif family:
        model = getattr(torchvision.models, member)()
    else:
        model = timm.create_model(member)
    randomize_constants(model.eval())
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    calibrate_batch_norm(model, images)
    return model, images


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_left(name: str) -> None:
    """That all networks' chains are found, with equal bits, is in models/test_families.py."""
    model, images = make(name)
    fused = bninv.patch(model)
    with torch.inference_mode(), Operators() as ran:
        fused(images)
    assert not {op for op, n in ran.count.items() if op in FUSED_AWAY and n}
    convolutions = sum(isinstance(m, nn.Conv2d) for m in fused.modules())
    assert ran.count["conv2d_fused"] == convolutions


# Each network in one dtype, each dtype with three networks; and all others.
DTYPES = (torch.bfloat16, torch.float16, torch.float64)
TYPED = [
    pytest.param(name, dtype, marks=[] if i % 3 == j else pytest.mark.exhaustive)
    for i, name in enumerate(IN_ALL_DTYPES)
    for j, dtype in enumerate(DTYPES)
]


@pytest.mark.parametrize(("name", "dtype"), TYPED, ids=str)
def test_in_all_dtypes(name: str, dtype: torch.dtype) -> None:
    model, images = make(name)
    model, images = model.to(dtype), images.to(dtype)
    fused, unfused = bninv.patch(copy.deepcopy(model)), bninv.patch(model, fuse=False)
    with torch.inference_mode():
        result = fused(images)
        assert_bitwise_equal(result, unfused(images))
    assert result.isfinite().all()
