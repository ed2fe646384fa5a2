"""Whole patched models on CUDA have the bits of the CPU, in any batch: emulated everywhere, on a
GPU with `-m cuda`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import bninv
from bninv.loading.calibration import calibrate_batch_norm, randomize_constants
from bninv.testing import assert_bitwise_equal
from tests.support import emulated

# Name -> pixels of an image, and options: emulation is slow.
MODELS: dict[str, tuple[int, dict[str, Any]]] = {
    "test_resnet": (48, {}),
    "mobilenetv3_small_050": (32, {}),
    "test_nfnet": (32, {}),
    "test_convnext": (32, {}),
    "test_vit": (48, {"img_size": 48, "depth": 2}),
    "swin_tiny_patch4_window7_224": (
        28,
        {"img_size": 28, "embed_dim": 24, "depths": (2,), "num_heads": (2,)},
    ),
}
BATCH = 3


def runner(device: str, model: nn.Module) -> Callable[[Tensor], Tensor]:
    """`model` on the device, for tensors on the CPU."""
    if device == "cuda":
        moved = copy.deepcopy(model).cuda()
        return lambda x: moved(x.cuda()).cpu()

    def run(x: Tensor) -> Tensor:
        with emulated.Redirected() as mode:
            result: Tensor = model(x)
        assert "linear" in mode.seen and mode.seen & {"conv2d", "conv2d_fused"}
        return result

    return run


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    size, options = MODELS[request.param]
    stock = timm.create_model(request.param, **options).eval()
    images = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(4))
    randomize_constants(stock)
    calibrate_batch_norm(stock, images)
    return bninv.patch(stock), images


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.filterwarnings("error::bninv.NotInvariantWarning")
def test_a_model_has_the_bits_of_the_cpu(
    device: str, model: tuple[nn.Module, Tensor], dtype: torch.dtype
) -> None:
    net, images = copy.deepcopy(model[0]).to(dtype), model[1].to(dtype)
    run = runner(device, net)
    with torch.no_grad():
        expected = net(images)
        whole = run(images)
        assert_bitwise_equal(whole, expected, "the batch")
        assert_bitwise_equal(run(images[1:2]), expected[1:2], "alone")
    assert whole.isfinite().all() and (whole[0] != whole[1]).any()
    assert bninv.uncovered(net) == []
