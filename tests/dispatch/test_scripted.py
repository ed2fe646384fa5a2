"""TorchScript functions in a module's code: named by patch, refused by strict, listed."""

from __future__ import annotations

import copy
import functools
import pickle
import types
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.patching import survey


@torch.jit.script
def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


traced = torch.jit.trace(lambda x: x * torch.sigmoid(x), torch.ones(2))
functions = types.SimpleNamespace(swish=swish)
by_name = {"swish": [swish]}


def helper(x: Tensor) -> Tensor:
    return swish(x)


class Global(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return swish(x)


class Traced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return traced(x)


class ByHelper(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return helper(x)


class Attribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = swish

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class OfTheClass(nn.Module):
    act = staticmethod(swish)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class OtherMethod(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)

    def head(self, x: Tensor) -> Tensor:
        return (lambda y: swish(y))(x)


class Default(nn.Module):
    def forward(self, x: Tensor, act: Any = swish) -> Tensor:
        return act(x)


class Namespace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functions.swish(x)


class Container(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return by_name["swish"][0](x)


class Partial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.run = functools.partial(helper)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return swish(x)


class Autograd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Function.apply(x)


class Unregistered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [torch.jit.script(nn.Sigmoid())]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


def closure() -> nn.Module:
    act = swish

    class Closure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return act(x)

    return Closure()


KINDS: tuple[Any, ...] = (
    Global,
    Traced,
    ByHelper,
    Attribute,
    OfTheClass,
    OtherMethod,
    Default,
    Namespace,
)
KINDS = (*KINDS, Container, Partial, Autograd, Unregistered, closure)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_scripted_function_is_named(make: Any) -> None:
    model = nn.Sequential(nn.Flatten(), make()).eval()
    before = type(model[1])
    with pytest.raises(bninv.NotInvariantError, match="of TorchScript.*: 1"):
        bninv.patch(model, strict=True)
    assert type(model[1]) is before
    with pytest.warns(
        bninv.NotInvariantWarning, match="of TorchScript, whose calls cannot"
    ) as seen:
        bninv.patch(model)
    assert len(seen) == 1
    (entry,) = bninv.uncovered(model)
    assert entry.operator.startswith("torch.jit::") and entry.count == 0
    assert entry.first.startswith(__file__)
    assert [left.name for left in survey(model)] == ["1"]
    with torch.no_grad():
        assert model(torch.ones(2, 3)).shape == (2, 3)


class Quiet(nn.Module):
    """Has scripted functions within reach, and refers to none."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.others = swish, by_name
        self.swish = nn.Sigmoid()  # a name that is a scripted function elsewhere

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return x
        return self.swish(x).relu()


def test_what_the_code_does_not_refer_to_is_no_matter() -> None:
    model = Quiet().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bninv.patch(model, strict=True)
    assert bninv.uncovered(model) == [] and survey(model) == []


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(2, 3))])
def test_scripted_and_traced_submodules_are_named(make: Any) -> None:
    for model in (nn.Sequential(make(nn.Sigmoid().eval())), make(nn.Sigmoid().eval())):
        with pytest.warns(bninv.NotInvariantWarning, match="it is a TorchScript module"):
            bninv.patch(model)


def test_a_copy_remembers() -> None:
    with pytest.warns(bninv.NotInvariantWarning):
        model = bninv.patch(Global().eval())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert bninv.uncovered(other) == bninv.uncovered(model)
