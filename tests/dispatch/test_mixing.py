"""Samples that are mixed by meaning are named, and nothing else is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as TF
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bninv

Function = Callable[[Tensor], Tensor]
# Of a [batch, 8] tensor.
MIXES: dict[str, tuple[Function, str]] = {
    "mean": (lambda x: x - x.mean(0), "mean"),
    "sum of all": (lambda x: x / x.sum(), "sum"),
    "minibatch deviation": (lambda x: x * x.var(0, unbiased=False).sqrt().mean(), "mean"),
    "softmax": (lambda x: x.softmax(0), "softmax"),
    "log_softmax": (lambda x: TF.log_softmax(x, dim=0), "log_softmax"),
    "sort": (lambda x: x.sort(0).values, "sort"),
    "a quantization's scale": (lambda x: (x / x.abs().max()).round(), "amax"),
    "similarities": (lambda x: x @ x.T, "linear"),
    "samples in the columns": (lambda x: (x.T @ x)[:1].expand_as(x), "linear"),
    "in another place": (
        lambda x: x.view(len(x), 2, 4).transpose(0, 1).mean(1).flatten(),
        "mean",
    ),
    "merged": (lambda x: x.view(-1, 4).softmax(0).view_as(x), "softmax"),
}
FINE: dict[str, Function] = {
    "over features": lambda x: x.softmax(1) - x.mean(1, keepdim=True),
    "before the batch": lambda x: x.view(len(x), 2, 4).transpose(0, 1).mean(0).softmax(-1),
    "windows": lambda x: x.view(-1, 2).softmax(-1).view_as(x),
    "of parameters": lambda x: x * torch.ones(8).mean(),
    "products of each sample": lambda x: (x.view(-1, 2, 4) @ x.view(-1, 4, 2)).flatten(1),
    "classes": lambda x: TF.one_hot((x > 0).long(), 2).sum(-1) * x,
    "a question": lambda x: x if bool(torch.isfinite(x).all()) else -x,
}


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def mixed(net: nn.Module, sizes: list[int], *shape: int) -> list[str]:
    """The operators that are warned of as mixing samples."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for size in sizes:
            net(torch.randn(size, *(shape or (8,))))
    lines = [line for w in seen for line in str(w.message).splitlines() if "batch's dim" in line]
    return [line.split(" over ")[0].strip().partition("::")[2] for line in lines]


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("sizes", [[5, 1], [1, 5], [2, 2, 4, 6]], ids=str)
def test_it_is_named_once(name: str, sizes: list[int]) -> None:
    function, operator = MIXES[name]
    net = bninv.patch(Net(function).eval())
    found = mixed(net, sizes)
    assert operator in found and len(found) == len(set(found))
    assert mixed(net, sizes) == []
    (first, *_) = (call for call in bninv.uncovered(net) if "over the batch" in call.operator)
    assert __file__ in first.first


@pytest.mark.parametrize("name", MIXES)
def test_strict_refuses_it(name: str) -> None:
    net = bninv.patch(Net(MIXES[name][0]).eval(), strict=True)
    with torch.no_grad():
        net(torch.randn(5, 8))
    with torch.no_grad(), pytest.raises(bninv.NotInvariantError, match="batch's dimension"):
        net(torch.randn(1, 8))


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("sizes", [[5, 1], [2, 4, 8], [8, 2]], ids=str)
def test_what_mixes_nothing_is_left_alone(name: str, sizes: list[int]) -> None:
    assert mixed(bninv.patch(Net(FINE[name]).eval(), strict=True), sizes) == []


@given(st.data())
def test_dimensions_as_long_as_the_batch(data: st.DataObject) -> None:
    """Which dimension is the batch is told from two runs, however long the others are."""
    size, other = data.draw(st.permutations([1, 2, 3, 4]))[:2]
    shape = [data.draw(st.sampled_from([1, 2, 3, 4])) for _ in range(3)]
    order = data.draw(st.permutations(range(4)))
    dim = data.draw(st.integers(0, 3))

    class Moved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(*order).softmax(dim)

    found = mixed(bninv.patch(Moved().eval()), [size, other], *shape)
    assert found == (["softmax"] if order[dim] == 0 else [])


def test_sizes_that_follow_the_content_are_no_batch() -> None:
    """As boxes that are kept: how many there are is not how many samples there are."""

    def kept(x: Tensor) -> Tensor:
        return x[x > 0].sort().values[:1].expand(len(x))

    net = bninv.patch(Net(kept).eval())
    with torch.no_grad():
        nn.init.eye_(net.linear.weight)
        nn.init.zeros_(net.linear.bias)
    ones = torch.ones(4, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        net(torch.cat([ones[:, :3], -ones[:, :5]], 1))
        net(ones[:2])


def test_another_path_through_the_code_shows_nothing() -> None:
    def by_size(x: Tensor) -> Tensor:
        return x.softmax(1) if len(x) > 2 else x.softmax(1) - x.mean(1, keepdim=True)

    assert mixed(bninv.patch(Net(by_size).eval(), strict=True), [4, 2]) == []


@pytest.mark.parametrize("kind", ["kwargs", "dict", "method"])
def test_other_ways_in(kind: str) -> None:
    class Ways(Net):
        def of_dict(self, batch: dict[str, Any]) -> Tensor:
            return self.forward(batch["x"])

    net = bninv.patch(Ways(lambda x: x.softmax(0)).eval())
    run: Function = {
        "kwargs": lambda x: net(x=x),
        "dict": lambda x: net.of_dict({"x": x}),
        "method": lambda x: net.forward(x),
    }[kind]
    with torch.no_grad():
        run(torch.randn(3, 8))
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="softmax over the batch"):
        run(torch.randn(1, 8))
