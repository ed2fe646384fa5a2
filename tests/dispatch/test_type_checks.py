"""`type(layer) is nn.Conv2d` cannot hold of a patched layer: `patch` names the code that asks."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor, nn

import bninv

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
ACTIVATED: dict[type, bool] = {nn.Conv2d: True}


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)])

    def asks(self, layer: nn.Module) -> bool:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if self.asks(layer):
                x = TF.relu(x)
        return x


class Is(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return type(layer) is nn.Conv2d


class IsNot(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return not (nn.Conv2d is not type(layer))


class Equals(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return layer.__class__ == nn.Conv2d


class OneOf(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return type(layer) in (nn.Linear, nn.Conv2d)


class OneOfThese(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return type(layer) in CONVOLUTIONS


class LookedUp(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return ACTIVATED.get(type(layer), False)


class Subscripted(Chain):
    def asks(self, layer: nn.Module) -> bool:
        try:
            return ACTIVATED[type(layer)]
        except KeyError:
            return False


class Isinstance(Chain):
    def asks(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.Conv2d)


class OfNoLayer(Chain):
    """Of classes that no layer here has, and of other things."""

    def asks(self, layer: nn.Module) -> bool:
        return type(layer) is not nn.Linear and type(layer.training) is not int


@pytest.mark.parametrize("kind", [Is, IsNot, Equals, OneOf, OneOfThese, LookedUp, Subscripted])
def test_it_is_named(kind: type[Chain]) -> None:
    with pytest.warns(bninv.NotInvariantWarning, match=r"is not Conv2d \(.*test_type_checks.py:"):
        bninv.patch(kind().eval())
    with pytest.raises(bninv.NotInvariantError, match="isinstance holds"):
        bninv.patch(kind().eval(), strict=True)
    model = nn.Sequential(kind()).eval()
    assert [u.name for u in bninv.patching.survey(model)] == ["0"]


@pytest.mark.parametrize("kind", [Isinstance, OfNoLayer])
def test_what_still_holds_is_not(kind: type[Chain]) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 8, 8)
    expected = model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(bninv.patch(model)(x), expected)
