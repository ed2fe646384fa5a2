"""What a patched model says of its uncovered calls: one warning, at the end of a run."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import bninv


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor, more: bool = False) -> Tensor:
        x = x.digamma().cumsum(1)
        x = self.inner(x) + x.digamma()
        return x.erfinv() if more else x

    def fails(self, x: Tensor) -> Tensor:
        x.digamma()
        raise ZeroDivisionError


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.logsumexp(1, keepdim=True)


@pytest.fixture
def net() -> Net:
    return bninv.patch(Net().eval())


X = torch.linspace(-0.9, 0.9, 12).view(3, 4)


def test_one_warning_lists_all_of_a_run(net: Net) -> None:
    with torch.no_grad():
        with pytest.warns(bninv.NotInvariantWarning) as record:
            net(X)
        (warning,) = record
        text = str(warning.message)
        assert text.startswith("3 operators are not covered, and their results may move")
        assert warning.filename == __file__  # the line that ran the model
        names = ["aten::digamma", "aten::cumsum", "aten::logsumexp"]
        for name, entry in zip(names, bninv.uncovered(net), strict=True):
            assert entry.operator == name and f"\n  {name} ({entry.first})" in text
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(X)
        with pytest.warns(
            bninv.NotInvariantWarning, match="^aten::erfinv is not covered"
        ) as record:
            net(X, more=True)
        assert len(record) == 1
    assert [entry.count for entry in bninv.uncovered(net)] == [6, 3, 3, 1]


def test_strict_raises_at_the_first() -> None:
    net = bninv.patch(Net().eval(), strict=True)
    with (
        torch.no_grad(),
        pytest.raises(bninv.NotInvariantError, match="aten::digamma is not covered"),
    ):
        net(X)


def test_a_run_that_fails_is_spoken_of_by_the_next(net: Net) -> None:
    with torch.no_grad():
        with pytest.raises(ZeroDivisionError):
            net.fails(X)
        assert [entry.operator for entry in bninv.uncovered(net)] == ["aten::digamma"]
        with pytest.warns(bninv.NotInvariantWarning, match="3 operators"):
            net(X)


def test_a_scope_warns_at_once() -> None:
    with torch.no_grad(), bninv.invariant():
        with pytest.warns(bninv.NotInvariantWarning, match="aten::digamma is not covered"):
            X.digamma()
        with pytest.warns(bninv.NotInvariantWarning, match="aten::cumsum is not covered"):
            X.cumsum(1)
