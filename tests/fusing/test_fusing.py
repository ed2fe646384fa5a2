"""Chains that run as one operator: the bits, and whatever else is done with such a model."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import Block, X, Y, operators, with_statistics

TRUST = ("tests.support.fusing_blocks",)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_becomes_of_the_calls(fused: nn.Module, unfused: nn.Module) -> None:
    assert operators(unfused, X) == {
        "conv2d": 6,
        "batch_norm": 6,
        "relu_": 4,
        "silu": 1,
        "mean": 1,
        "linear": 1,
    }
    assert operators(fused, X) == {"conv2d_fused": 6, "mean": 1, "linear": 1}
    with torch.inference_mode():
        assert_bitwise_equal(fused(X), unfused(X))
    found = bninv.fusion(fused)
    assert (found.chains, found.calls, found.blocks) == (6, 19, 1)
    assert found.unfused == []
    assert str(found) == "19 calls run as 6 operators"
    assert bninv.fusion(unfused).chains == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(net: nn.Module, dtype: torch.dtype) -> None:
    assert isinstance(net.stem, nn.Sequential)
    net.stem[2] = nn.Hardswish().eval()  # there is no silu in float64
    net = net.to(dtype)
    fused, unfused = bninv.patch(copy.deepcopy(net), trust=TRUST), bninv.patch(net, fuse=False)
    assert operators(fused, X.to(dtype))["conv2d_fused"] == 6
    with torch.inference_mode():
        assert_bitwise_equal(fused(X.to(dtype)), unfused(X.to(dtype)))


def test_grad_modes_give_the_same(fused: nn.Module, unfused: nn.Module) -> None:
    expected = unfused(X).detach()
    for context in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with context():
            assert_bitwise_equal(fused(X).detach(), expected)
    assert fused(X).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(fused: nn.Module, unfused: nn.Module, dtype: torch.dtype) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        assert_bitwise_equal(fused(X), unfused(X))
        counts = operators(fused, X)
    assert counts["conv2d_fused"] == 6
    assert counts["batch_norm"] == 0


def test_autocast_beside_a_residual_of_another_dtype() -> None:
    """Blocks that are handed float32: their shortcut has another dtype than what is added to it."""
    block = with_statistics(Block())
    fused, unfused = bninv.patch(copy.deepcopy(block), trust=TRUST), bninv.patch(block, fuse=False)
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16),
        warnings.catch_warnings(),
    ):
        # bfloat16 += float32 may round twice.
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)
        result = fused(Y)
        assert_bitwise_equal(result, unfused(Y))
        assert result.dtype == torch.bfloat16
        counts = operators(fused, Y)
    assert (counts["conv2d_fused"], counts["batch_norm"]) == (1, 1)


# ---- Whatever else is done with a model ----------------------------------------------------------


def test_copies_and_pickles_fuse(fused: nn.Module) -> None:
    with torch.inference_mode():
        expected = fused(X)
        for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
            assert operators(other, X)["conv2d_fused"] == 6
            with torch.no_grad():
                other.blocks[0].conv1.weight.zero_()
            assert not torch.equal(other(X), expected)
        assert_bitwise_equal(fused(X), expected)


def test_nothing_else_about_the_model_changes(net: nn.Module) -> None:
    model = bninv.patch(copy.deepcopy(net), trust=TRUST)
    model(X)
    assert list(model.state_dict()) == list(net.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in net.named_modules()]
    for (_, ours), (_, stock) in zip(model.named_modules(), net.named_modules(), strict=True):
        assert isinstance(ours, type(stock))
    bninv.unpatch(model)
    for (_, ours), (_, stock) in zip(model.named_modules(), net.named_modules(), strict=True):
        assert type(ours) is type(stock)
        assert set(vars(ours)) == set(vars(stock))


def test_patching_again_turns_fusing_on_and_off(fused: nn.Module) -> None:
    assert "conv2d_fused" not in operators(bninv.patch(fused, fuse=False), X)
    assert operators(bninv.patch(fused, trust=TRUST), X)["conv2d_fused"] == 6


def test_filter_fn(net: nn.Module) -> None:
    model = bninv.patch(
        net, trust=TRUST, filter_fn=lambda module, name: not name.startswith("blocks.0.conv")
    )
    counts = operators(model, X)
    assert counts["conv2d_fused"] == 4
    assert "conv2d" not in counts
    assert counts["batch_norm"] == 2


def test_a_slice_of_a_container(fused: nn.Module, unfused: nn.Module) -> None:
    with torch.inference_mode():
        assert_bitwise_equal(fused.stem[:2](X), unfused.stem[:2](X))
        assert_bitwise_equal(fused.stem[2](fused.stem[:2](X)), fused.stem(X))


def test_threads(fused: nn.Module, unfused: nn.Module) -> None:
    """All of them make the programs at once."""
    with torch.inference_mode():
        expected = unfused(X)
    results: list[Tensor] = []

    def run() -> None:
        with torch.inference_mode():
            results.append(fused(X))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        assert_bitwise_equal(result, expected)


@pytest.mark.parametrize("route", ["trace", "fx", "export", "compile"])
def test_graphs(fused: nn.Module, unfused: nn.Module, route: str) -> None:
    with torch.no_grad():
        expected = unfused(X)
        fused(X)
        if route == "trace":
            graph: Any = torch.jit.trace(fused, X)
        elif route == "fx":
            graph = torch.fx.symbolic_trace(fused)
        elif route == "export":
            graph = torch.export.export(fused, (X,)).module()
        else:
            torch._dynamo.reset()
            graph = torch.compile(fused, backend="eager", fullgraph=True)
        assert_bitwise_equal(graph(X), expected)


def test_errors_come_through(fused: nn.Module) -> None:
    fused(X)
    with pytest.raises(RuntimeError, match="`input` has 5 channels"):
        fused(torch.randn(1, 5, 9, 9))
    assert torch._C._len_torch_function_stack() == 0
    fused(X)


def test_a_profiler_goes_on(fused: nn.Module) -> None:
    seen = []
    sys.setprofile(lambda frame, event, argument: seen.append(event))
    try:
        fused(X)
        count = len(seen)
        fused(X)
    finally:
        sys.setprofile(None)
    assert count > 0
    assert len(seen) > count
    assert operators(fused, X)["conv2d_fused"] == 6
