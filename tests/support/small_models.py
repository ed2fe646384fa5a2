"""Small models for the tests of bninv.check, with something planted in their middle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import bninv


def patched(model: nn.Module) -> nn.Module:
    """`bninv.patch`, knowing that planted layers stay stock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)
        return bninv.patch(model)


class Functional(nn.Module):
    """A layer made of one function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def small_cnn(plant: nn.Module | None = None) -> nn.Sequential:
    """Convolutions, BatchNorm, ReLU, pooling and a linear layer; `plant` in their middle."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 16, 3, padding=1, bias=False))
    model.add_module("bn1", nn.BatchNorm2d(16))
    model.add_module("relu1", nn.ReLU(inplace=True))
    if plant is not None:
        model.add_module("plant", plant)
    model.add_module("conv2", nn.Conv2d(16, 32, 3, stride=2, bias=False))
    model.add_module("bn2", nn.BatchNorm2d(32))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(32, 10))
    return model.eval()


def images(count: int = 4, side: int = 12) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def mixes_samples(x: Tensor) -> Tensor:
    return x + 1e-3 * x.mean(0, keepdim=True)


def looks_at_the_batch_size(x: Tensor) -> Tensor:
    return x * 1.0001 if len(x) > 2 else x


def marks_the_last_position(x: Tensor) -> Tensor:
    if len(x) > 1:
        x = x.clone()
        x[-1] *= 1.0001
    return x


def lets_nan_through(x: Tensor) -> Tensor:
    return x + 0 * x.sum()
