"""Squeeze-and-excitation: mean and gate are calls of a program, which need not be caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv.dispatch.catch import Catch
from tests.support.properties import assert_bits, normal


class Excited(nn.Module):
    """Alone it has no chain, and no program."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(16, 16, 1), nn.ReLU()
        self.excite = EffectiveSEModule(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.excite(self.act(self.conv(x)))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet's": lambda: SqueezeExcite(16, rd_channels=4),
    "SEModule": lambda: SEModule(16, rd_channels=4),
    "SEModule with a norm": lambda: SEModule(16, rd_channels=4, norm_layer=nn.BatchNorm2d),
    "EffectiveSEModule, in a block": lambda: Excited(),
}


def caught(monkeypatch: pytest.MonkeyPatch, model: nn.Module, x: Tensor) -> tuple[Tensor, list]:
    """The result, and the names of the functions that the protection saw."""
    names: list[str] = []
    original = Catch.__torch_function__

    def noting(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(getattr(func, "__name__", str(func)))
        return original(self, func, *args, **kwargs)

    monkeypatch.setattr(Catch, "__torch_function__", noting)
    with torch.no_grad():
        return model(x), names


@pytest.mark.parametrize("label", BLOCKS)
def test_nothing_is_caught(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    torch.manual_seed(0)
    block = BLOCKS[label]().eval()
    x = normal("x", 3, 16, 7, 5)
    stock = block(x)
    result, names = caught(monkeypatch, bninv.patch(block, trust=(__name__,)), x)
    assert names == []
    torch.testing.assert_close(result, stock)
    with torch.no_grad():
        assert_bits(block(x[1:2]), result[1:2])


def test_the_bits_are_those_of_caught_calls() -> None:
    torch.manual_seed(0)
    block = bninv.patch(SqueezeExcite(16, rd_channels=4).eval())
    x = normal("x", 3, 16, 7, 5)
    with torch.no_grad():
        gate = block.conv_expand(block.act1(block.conv_reduce(F.mean(x, (2, 3), True))))
        assert_bits(block(x), x * block.gate(gate))


class Other(SEModule):
    """Another version of the block, with something else in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean((2, 3), keepdim=True)


def test_another_forward_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    block = bninv.patch(Other(16, rd_channels=4).eval())
    _, names = caught(monkeypatch, block, normal("x", 2, 16, 5, 5))
    assert names.count("mean") == 2 and "add" in names


def test_a_changed_block_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's own class, as a later version might have it."""

    def forward(self: Any, x: Tensor) -> Tensor:
        gate = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * self.gate(gate).sqrt()

    monkeypatch.setattr(SqueezeExcite, "forward", forward)
    # Patched classes are kept by stock class: one of its own for this test.
    changed = type("SqueezeExcite", (SqueezeExcite,), {})
    block = bninv.patch(changed(16, rd_channels=4).eval())
    _, names = caught(monkeypatch, block, normal("x", 2, 16, 5, 5))
    assert "mean" in names and "sqrt" in names


def test_a_layer_that_is_no_module_of_bninvs_is_still_caught() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sinc()

    block = SqueezeExcite(16, rd_channels=4)
    block.act1 = Odd()
    bninv.patch(block.eval())
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="sinc"):
        block(normal("x", 2, 16, 5, 5))
