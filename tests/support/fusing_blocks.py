"""A small network with chains in it, and what the tests of fusing look at."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Block(nn.Module):
    """A residual block in the way of the networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.act1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.downsample: nn.Module | None = None
        self.scale = 1.0
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.drop(self.act1(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        if self.scale != 1.0:
            x = x * self.scale
        x += shortcut
        return self.act2(x)


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Operators(TorchDispatchMode):
    """Counts bninv's operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "bninv":
            self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


X = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))
Y = torch.randn(3, 6, 7, 7, generator=torch.Generator().manual_seed(1))
Y = Y.to(memory_format=torch.channels_last)


def with_statistics(model: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return model.eval()


def operators(model: Callable[..., Any], *args: Any) -> collections.Counter[str]:
    with torch.inference_mode(), Operators() as seen:
        model(*args)
    return seen.count


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
