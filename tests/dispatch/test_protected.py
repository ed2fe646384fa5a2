"""A patched model's own code is protected, whichever way it is entered; other routes raise."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

import bninv
import bninv.functional as F
from bninv import _protection
from bninv.dispatch import Excluded, Protected
from bninv.testing import assert_batch_invariant, assert_bitwise_equal


class Gate(nn.Module):
    """Squeeze and excite, by functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.Sequential(Gate(), nn.ReLU(), Gate())
        self.head = nn.Linear(8, 5)
        self.extra: Callable[[Tensor], Tensor] | None = None

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(TF.silu(self.stem(x)))

    def reset(self) -> None:
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        self.head = nn.Linear(8, 5)

    def forward_intermediates(self, x: Tensor) -> list[Tensor]:
        x = TF.silu(self.stem(x))
        return [x, self.blocks[0](x).mean((2, 3))]

    def forward(self, x: Tensor) -> Tensor:
        x = self.forward_features(x).mean((2, 3))
        if self.extra is not None:
            x = self.extra(x)
        return torch.softmax(self.head(x), dim=-1)


X = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def gate(module: Gate, x: Tensor) -> Tensor:
    squeezed = F.mean(x, (2, 3), True)
    return x * F.sigmoid(F.conv2d(squeezed, module.fc.weight, module.fc.bias))


def by_hand(net: Net, x: Tensor) -> dict[str, Tensor]:
    """What each stage must give, by bninv's operators alone."""
    stem = F.silu(F.conv2d(x, net.stem.weight, net.stem.bias))
    block = gate(net.blocks[0], stem)
    features = gate(net.blocks[2], F.relu(block))
    logits = F.linear(F.mean(features, (2, 3)), net.head.weight, net.head.bias)
    return {
        "stem": stem,
        "block": block,
        "pooled": F.mean(block, (2, 3)),
        "features": features,
        "output": F.softmax(logits, -1),
    }


@pytest.fixture
def net() -> Net:
    torch._dynamo.reset()  # every test is one more model of the same class
    torch.manual_seed(0)
    return bninv.patch(Net().eval())


@pytest.fixture
def stages(net: Net) -> dict[str, Tensor]:
    with torch.no_grad():
        return by_hand(net, X)


ROUTES: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "model": (lambda net, x: net(x), "output"),
    "forward": (lambda net, x: net.forward(x), "output"),
    "forward_features": (lambda net, x: net.forward_features(x), "features"),
    "forward_intermediates": (lambda net, x: net.forward_intermediates(x)[1], "pooled"),
    "a block": (lambda net, x: net.blocks[0](F.silu(net.stem(x))), "block"),
    "by keyword": (lambda net, x: net(x=x), "output"),
    "deepcopy": (lambda net, x: copy.deepcopy(net)(x), "output"),
    "pickle": (lambda net, x: pickle.loads(pickle.dumps(net))(x), "output"),
    "fx": (lambda net, x: torch.fx.symbolic_trace(net)(x), "output"),
    "feature extractor": (
        lambda net, x: create_feature_extractor(net, {"blocks.0": "b", "head": "h"})(x)["b"],
        "block",
    ),
    "jit.trace": (lambda net, x: torch.jit.trace(net, (x[:2],))(x), "output"),
    "compile": (
        lambda net, x: torch.compile(net, fullgraph=True, backend="aot_eager")(x),
        "output",
    ),
    "compile features": (
        lambda net, x: torch.compile(net.forward_features, fullgraph=True, backend="aot_eager")(x),
        "features",
    ),
    "export": (lambda net, x: torch.export.export(net, (x,)).module()(x), "output"),
    "export, not strict": (
        lambda net, x: torch.export.export(net, (x,), strict=False).module()(x),
        "output",
    ),
}


@pytest.mark.parametrize("grad_mode", ["no_grad", "inference_mode", "enable_grad"])
@pytest.mark.parametrize("route", ROUTES)
def test_route(net: Net, stages: dict[str, Tensor], route: str, grad_mode: str) -> None:
    run, stage = ROUTES[route]
    if grad_mode == "inference_mode" and route.startswith("export"):
        pytest.skip("torch.export does not trace under inference_mode")
    with getattr(torch, grad_mode)(), warnings.catch_warnings():
        warnings.simplefilter("error", bninv.NotInvariantWarning)
        result = run(net, X)
    assert_bitwise_equal(result.detach(), stages[stage], route)
    assert _protection.active() is None


LOST: dict[str, Callable[[Net], Any]] = {
    "jit.trace": lambda net: torch.jit.trace(net, (X,)),
    "compile": lambda net: torch.compile(net, fullgraph=True, backend="aot_eager")(X),
    "export": lambda net: torch.export.export(net, (X,)),
}


@pytest.mark.parametrize("route", LOST)
def test_a_route_that_would_lose_an_uncovered_call_raises(net: Net, route: str) -> None:
    net.extra = lambda x: x * x.erfc()
    with torch.no_grad(), pytest.raises(Exception, match="erfc is not covered"):
        LOST[route](net)


def test_a_traced_graph_still_warns(net: Net) -> None:
    net.extra = lambda x: x * x.erfc()
    traced = torch.fx.symbolic_trace(net)
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="erfc"):
        traced(X)


def test_tracing_a_nameless_function_raises(net: Net) -> None:
    def hidden(x: Tensor) -> Tensor:
        return x.exp()

    def extra(x: Any) -> Any:
        return torch.fx.Proxy(
            x.tracer.create_node("call_function", hidden, (x.node,), {}), x.tracer
        )

    net.extra = extra
    with pytest.raises(bninv.NotInvariantError, match="hidden"):
        torch.fx.symbolic_trace(net)


def test_a_graph_traced_before_patching_is_listed() -> None:
    traced = torch.fx.symbolic_trace(Net().eval())
    with pytest.warns(bninv.NotInvariantWarning, match="traced before it was patched"):
        bninv.patch(traced)


def test_uncovered_calls_are_warned_of_once_and_listed(net: Net) -> None:
    net.extra = lambda x: x * x.erfc()
    assert bninv.uncovered(net) == []

    def twice() -> None:
        net(X)
        net(X)

    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning) as record:
        twice()
    assert len(record) == 1
    (entry,) = bninv.uncovered(net)
    assert (entry.operator, entry.count) == ("aten::erfc", 2)
    assert __file__ in entry.first
    assert bninv.uncovered(bninv.unpatch(net)) == []


def test_strict_raises_at_the_call() -> None:
    net = bninv.patch(Net().eval(), strict=True)
    net.extra = lambda x: x * x.erfc()
    with torch.no_grad(), pytest.raises(bninv.NotInvariantError, match="erfc"):
        net(X)
    net.extra = None
    with torch.no_grad():
        assert_bitwise_equal(net(X), by_hand(net, X)["output"])
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_a_strict_part_makes_the_whole_strict() -> None:
    part = bninv.patch(Net().eval(), strict=True)
    part.extra = lambda x: x * x.erfc()
    bninv.patch(nn.Sequential(part))
    with torch.no_grad(), pytest.raises(bninv.NotInvariantError, match="erfc"):
        part(X)
    bninv.patch(part)  # asked anew
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="erfc"):
        part(X)


def test_an_exception_ends_the_protection(net: Net) -> None:
    def fail(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    net.extra = fail
    with pytest.raises(ZeroDivisionError):
        net(X)
    assert _protection.active() is None


def test_invariance_of_the_whole(net: Net) -> None:
    with torch.no_grad():
        assert_batch_invariant(net, X, batch_sizes=(1, 2, 3, 5))


def test_training_mode_is_stock(net: Net) -> None:
    stock = bninv.unpatch(copy.deepcopy(net)).train()
    x = X.clone().requires_grad_()
    result = net.train()(x)
    # Not bit by bit: stock kernels look at the weights' strides, which are the panels' here.
    torch.testing.assert_close(result.detach(), stock(X).detach())
    result.sum().backward()  # stock's backward, which exists
    assert x.grad is not None


def test_a_part_in_training_mode_is_stock_where_gradients_are_wanted(
    net: Net, stages: dict[str, Tensor]
) -> None:
    stock = bninv.unpatch(copy.deepcopy(net))
    net.blocks[0].train()
    result = net.blocks(stages["stem"])
    expected = gate(net.blocks[2], F.relu(stock.blocks[0](stages["stem"])))
    assert_bitwise_equal(result.detach(), expected.detach())
    with torch.no_grad():
        assert_bitwise_equal(net.blocks(stages["stem"]), stages["features"])


def test_what_filter_fn_leaves_out_stays_stock(stages: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    stock = Net().eval()
    net = bninv.patch(copy.deepcopy(stock), filter_fn=lambda _, name: name != "blocks.0")
    assert isinstance(net.blocks[0], Excluded) and isinstance(net.blocks[2], Protected)
    seen: list[Tensor] = []
    net.blocks[0].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        net(X)
        squeezed = stages["stem"].mean((2, 3), keepdim=True)
        weight = F.conv2d(squeezed, stock.blocks[0].fc.weight, stock.blocks[0].fc.bias)
        assert_bitwise_equal(seen[0], stages["stem"] * weight.sigmoid())
    assert type(bninv.unpatch(net).blocks[0]) is Gate


def test_unpatch_gives_the_stock_classes_back(net: Net) -> None:
    assert isinstance(net, Protected) and net._get_name() == "BninvNet"
    assert (type(net).__name__, type(net).__qualname__) == ("Net", "Net")
    bninv.unpatch(net)
    assert type(net) is Net and type(net.blocks[0]) is Gate
    assert "_bninv_policy" not in vars(net)


def test_methods_beside_a_forward_of_torch_nn() -> None:
    class Features(nn.Sequential):
        def pooled(self, x: Tensor) -> Tensor:
            return self(x).mean((2, 3))

    model = bninv.patch(Features(nn.Conv2d(3, 4, 3)).eval())
    with torch.no_grad():
        assert_bitwise_equal(model.pooled(X), F.mean(model[0](X), (2, 3)))
    assert type(bninv.unpatch(model)) is Features


def test_what_computes_no_result_is_left_alone() -> None:
    net = bninv.patch(Net().eval(), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.reset()  # random numbers in parameters
        net.apply(lambda module: None)
        net.load_state_dict(net.state_dict())
        repr(net)
