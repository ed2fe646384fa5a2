"""What the tests of fusing share."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import bninv
from tests.support.fusing_blocks import Block, Net, with_statistics


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(3)
    block = Block()
    block.downsample = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6))
    return with_statistics(Net(Block(), block))


@pytest.fixture
def fused(net: nn.Module) -> nn.Module:
    return bninv.patch(copy.deepcopy(net), trust=("tests.support.fusing_blocks",))


@pytest.fixture
def unfused(net: nn.Module) -> nn.Module:
    return bninv.patch(net, fuse=False)
