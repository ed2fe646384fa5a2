"""Every kind of module that patch knows gives what stock gives under autocast: the same dtype."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import bninv
from tests.support.module_cases import CASES, UNFAKED, randomized
from tests.support.stock_autocast import autocast

HALVES = [torch.float16, torch.bfloat16]


def of(name: str, device: str, parameters: torch.dtype) -> nn.Module:
    with torch.device(device):
        module = randomized(CASES[name][0])
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(parameters)
    return module


def dtype_or_error(module: nn.Module, x: torch.Tensor) -> Any:
    try:
        return module(x.clone()).dtype
    except (RuntimeError, ValueError):
        return "an error"


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_dtype_is_stocks(name: str, device_type: str) -> None:
    """Of an input in each precision, beside parameters of its own and of float32."""
    if device_type == "cuda" and name in UNFAKED:
        pytest.skip("stock has no kernel for fake tensors on CUDA")
    for dtype in (torch.float32, *HALVES):
        x = torch.ones(3, *CASES[name][1], dtype=dtype, device=device_type)
        for parameters in {dtype, torch.float32}:
            stock = of(name, device_type, parameters)
            patched = bninv.patch(of(name, device_type, parameters), strict=True)
            for low in HALVES:
                with warnings.catch_warnings(), autocast(device_type, low):
                    warnings.simplefilter("ignore")  # stock says which of its kernels it took
                    expected = dtype_or_error(stock, x)
                    assert dtype_or_error(patched, x) == expected, (dtype, parameters, low)


@pytest.mark.parametrize("name", ["FrozenBatchNorm2d", "FrozenBatchNormAct2d", "timm RmsNorm2d"])
@torch.no_grad()
def test_the_widest_dtype_of_an_expression(name: str) -> None:
    """Half-precision inputs of what stock writes as products with float32 parameters."""
    stock, patched = of(name, "cpu", torch.float32), bninv.patch(of(name, "cpu", torch.float32))
    x = torch.randn(2, *CASES[name][1], generator=torch.Generator().manual_seed(0)).bfloat16()
    result = patched(x)
    torch.testing.assert_close(result, stock(x), rtol=1e-2, atol=1e-2)
    assert torch.equal(result, patched(x.float()))


@torch.no_grad()
def test_a_fused_frozen_norm_keeps_stocks_dtype() -> None:
    """Under autocast the convolution's result is narrow, and that of the norm is not."""
    from torchvision.ops import FrozenBatchNorm2d

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.norm = FrozenBatchNorm2d(8)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.norm(self.conv(x)))

    torch.manual_seed(0)
    stock = Block().eval()
    x = torch.randn(2, 3, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected = stock(x)
    patched = bninv.patch(stock, trust=(__name__,))
    fused = patched(x)
    assert bninv.fusion(patched).chains == 1
    with torch.autocast("cpu", torch.bfloat16):
        result = patched(x)
        unfused = bninv.patch(bninv.unpatch(patched), fuse=False)
        assert torch.equal(unfused(x), result)
    assert result.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=2e-2, atol=2e-2)
    assert torch.equal(unfused(x), fused)
