"""Chains that run as one operator: the bits, and what takes a block back to its own code."""

from __future__ import annotations

import collections
import copy
import pickle
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bninv
from bninv.testing import assert_bitwise_equal

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(3)
    block = Block()
    block.downsample = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6))
    return with_statistics(Net(Block(), block))


@pytest.fixture
def fused(net: nn.Module) -> nn.Module:
    return bninv.patch(copy.deepcopy(net))


@pytest.fixture
def unfused(net: nn.Module) -> nn.Module:
    return bninv.patch(net, fuse=False)


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
    net.stem[2] = nn.Hardswish().eval()  # there is no silu in float64
    net = net.to(dtype)
    fused, unfused = bninv.patch(copy.deepcopy(net)), bninv.patch(net, fuse=False)
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
    fused, unfused = bninv.patch(copy.deepcopy(block)), bninv.patch(block, fuse=False)
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


# ---- What a program depends on -------------------------------------------------------------------


def _hook(module: nn.Module, *args: Any) -> None:
    module.hooked = getattr(module, "hooked", 0) + 1


def _set(name: str, attribute: str, value: Any) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        setattr(model.get_submodule(name), attribute, value)

    return change


def _with(name: str, act: Callable[[Any], Any]) -> Callable[[nn.Module], None]:
    return lambda model: act(model.get_submodule(name))


def _scaled_forward(module: nn.Module) -> None:
    own = type(module).forward
    module.forward = lambda x: own(module, x) * 2


def _doubled(module: nn.Module) -> None:
    with torch.no_grad():
        module.weight.mul_(2)


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "a hook of a convolution": _with("blocks.0.conv1", lambda m: m.register_forward_hook(_hook)),
    "a pre-hook of a BatchNorm": _with(
        "blocks.0.bn2", lambda m: m.register_forward_pre_hook(_hook)
    ),
    "a hook of an activation": _with("blocks.0.act1", lambda m: m.register_forward_hook(_hook)),
    "a hook of a dropout": _with("blocks.0.drop", lambda m: m.register_forward_hook(_hook)),
    "a hook of a container": _with("stem", lambda m: m.register_forward_hook(_hook)),
    "a hook of a layer in it": _with("stem.2", lambda m: m.register_forward_hook(_hook)),
    "a hook that changes the result": _with(
        "blocks.1.bn1", lambda m: m.register_forward_hook(lambda m, a, y: y + 1)
    ),
    "another forward of a BatchNorm": _with("blocks.1.bn1", _scaled_forward),
    "another forward of an activation": _with("blocks.1.act2", _scaled_forward),
    "another stride": _set("stem.0", "stride", (2, 2)),
    "another epsilon": _set("blocks.0.bn1", "eps", 0.5),
    "another weight": _set("blocks.0.conv1", "weight", nn.Parameter(torch.ones(6, 6, 3, 3))),
    "no statistics' weight": _set("blocks.1.bn2", "weight", None),
    "a weight changed in place": _with("blocks.0.conv2", _doubled),
    "another number of the block's": _set("blocks.0", "scale", 0.3),
    "another activation": _set("blocks.0", "act1", nn.Tanh()),
    "another BatchNorm": _set("blocks.0", "bn2", nn.Identity()),
    "a module where there was none": _set("blocks.0", "downsample", nn.MaxPool2d(3, 1, 1)),
    "none where there was a module": _set("blocks.1", "downsample", None),
    "one layer more in a container": _with("stem", lambda m: m.append(nn.ReLU())),
    "one layer less in a container": _with("stem", lambda m: m.pop(2)),
    "a layer that is stock again": _with("blocks.0.bn1", bninv.unpatch),
    "a block that is stock again": _with("blocks.1", bninv.unpatch),
    "a parametrized convolution": _with(
        "blocks.0.conv1", lambda m: nn.utils.parametrizations.weight_norm(m)
    ),
    "a residual of another dtype": _with("blocks.1.downsample", lambda m: m.append(_ToHalf())),
    "a residual that is broadcast": _with("blocks.1.downsample", lambda m: m.append(_OnePixel())),
}


class _ToHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class _OnePixel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :1, :1]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("when", ["before the first call", "after it"])
def test_changed_after_patching(fused: nn.Module, unfused: nn.Module, name: str, when: str) -> None:
    with torch.inference_mode():
        before = unfused(X)
        if when == "after it":
            assert_bitwise_equal(fused(X), before)
    for model in (fused, unfused):
        CHANGES[name](model)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)  # of a stock module put in
        assert_bitwise_equal(fused(X), unfused(X))
        if "hook of" not in name and "again" not in name:
            assert not torch.equal(unfused(X), before), "the change changes nothing"
    counts = [[getattr(m, "hooked", 0) for m in model.modules()] for model in (fused, unfused)]
    assert counts[0] == ([c // 2 if "hook of" not in name else c for c in counts[1]])


def test_dropout_that_is_left_in_training(fused: nn.Module) -> None:
    """As in Monte Carlo dropout."""
    with torch.inference_mode():
        expected = fused(X)
        fused.blocks[0].drop.train()
        with pytest.warns(bninv.NotInvariantWarning, match="dropout"):
            assert not torch.equal(fused(X), expected)
        fused.blocks[0].drop.eval()
        assert_bitwise_equal(fused(X), expected)


def test_a_batch_norm_in_training_is_stock(net: nn.Module, fused: nn.Module) -> None:
    for model in (net, fused):
        model.blocks[0].bn1.train()
    before = fused.blocks[0].bn1.num_batches_tracked.clone()
    with torch.no_grad():
        fused(X)
    assert fused.blocks[0].bn1.num_batches_tracked == before + 1


def test_hooks_taken_away_again(fused: nn.Module) -> None:
    hook = fused.blocks[0].conv1.register_forward_hook(_hook)
    for _ in range(20):
        assert operators(fused, X) == {
            "conv2d_fused": 5,
            "conv2d": 1,
            "batch_norm": 1,
            "mean": 1,
            "linear": 1,
        }
    assert fused.blocks[0].conv1.hooked == 20
    assert [str(block) for block in bninv.fusion(fused).unfused] == [
        "(the model itself) (Net): its blocks.0.conv1 carries hooks",
        "blocks.0 (Block): its conv1 carries hooks",
    ]
    hook.remove()
    assert operators(fused, X)["conv2d_fused"] == 6
    assert bninv.fusion(fused).unfused == []


def test_hooks_that_are_there_at_the_first_call(fused: nn.Module) -> None:
    hooks = [m.register_forward_hook(_hook) for m in fused.modules()]
    for _ in range(20):
        assert operators(fused, X)["conv2d_fused"] == 0
    for hook in hooks:
        hook.remove()
    assert operators(fused, X)["conv2d_fused"] == 6


def test_a_block_that_keeps_changing(fused: nn.Module, unfused: nn.Module) -> None:
    for step in range(30):
        for model in (fused, unfused):
            model.blocks[0].scale = float(step)
        with torch.inference_mode():
            assert_bitwise_equal(fused(X), unfused(X))
        if step < 3:
            assert operators(fused, X)["conv2d_fused"] == 6


def test_hooks_of_all_modules(fused: nn.Module) -> None:
    kinds = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, y: kinds.append(type(m)))
    try:
        fused(X)
    finally:
        handle.remove()
    assert len(kinds) == len([m for m in fused.modules() if not isinstance(m, Net)]) + 1


def test_training_mode_is_stock(net: nn.Module, fused: nn.Module) -> None:
    stock, model = net.train(), fused.train()
    for m in (stock, model):
        for block in m.blocks:
            block.drop.p = 0.0
    torch.testing.assert_close(model(X), stock(X))
    means = [m.blocks[0].bn1.running_mean for m in (model, stock)]
    torch.testing.assert_close(*means)
    assert means[0].abs().max() > 0


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
    model = bninv.patch(copy.deepcopy(net))
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
    assert operators(bninv.patch(fused), X)["conv2d_fused"] == 6


def test_filter_fn(net: nn.Module) -> None:
    model = bninv.patch(net, filter_fn=lambda module, name: not name.startswith("blocks.0.conv"))
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


# ---- Ways of writing a block ---------------------------------------------------------------------


class Pieces(nn.Module):
    """Layers; `forward` is given."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.norm1d = nn.BatchNorm1d(6)
        self.act = nn.ReLU(inplace=True)
        self.linear = nn.Linear(7, 7)
        self.function = forward
        self.numbers = [6, 6]
        self.table = {"a": 1}
        self.calls = 0

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


COUNTER = [0]


def _counts(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return self.act(self.conv(x))


def _prints(self: Any, x: Tensor) -> Tensor:
    print("forward")
    return self.act(self.conv(x))


def _appends(self: Any, x: Tensor) -> Tensor:
    COUNTER.append(len(COUNTER))
    return self.act(self.conv(x))


def _random(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x * random.random()))


def _changes_its_list(self: Any, x: Tensor) -> Tensor:
    self.numbers.append(1)
    return self.act(self.conv(x))


def _reads_a_dict(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * self.table["a"]


def _looks_at_values(self: Any, x: Tensor) -> Tensor:
    x = self.act(self.conv(x))
    return -x if x.sum() > 0 else x


def _looks_at_the_size(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x if x.shape[0] > 1 else -x))


def _norm_of_another_rank(self: Any, x: Tensor) -> Tensor:
    return self.act(self.norm1d(self.conv(x).flatten(2)))


def _uses_the_list(self: Any, x: Tensor) -> Tensor:
    a, b = torch.split(self.act(self.norm(torch.cat([x, x], 1)[:, :6])), [2, 4], 1)
    return self.act(self.conv(torch.cat([a, b], 1))) * self.numbers[0]


def _asks_for_types(self: Any, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        x = x[0]
    return self.act(self.conv(x))


def _under_autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return self.act(self.conv(x))


def _under_another_grad_mode(self: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return self.act(self.conv(x))


def _asks_for_the_grad_mode(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * (1 if torch.is_grad_enabled() else 2)


def _asks_for_determinism(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * (2 if torch.are_deterministic_algorithms_enabled() else 1)


def _random_tensor(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.rand(7)


def _tensor_of_its_own(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.ones(7, dtype=x.dtype)


def _tensor_of_the_default_dtype(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.ones(7)


def _tensor_from_outside(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) + Y


def _two_uses(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(self.norm(y)) + y


def _changes_the_input(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    x.mul_(2)
    return self.act(self.norm(y)) + x


def _residual_first(self: Any, x: Tensor) -> Tensor:
    return self.act(x + self.norm(self.conv(x)))


def _into_the_shortcut(self: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x += self.norm(self.conv(x))
    return self.act(x)


def _functions(self: Any, x: Tensor) -> Tensor:
    return F.hardswish(self.linear(F.relu(self.conv(x), inplace=True)) + x)


def _leaky(self: Any, x: Tensor) -> Tensor:
    return F.leaky_relu(self.conv(x), 0.3)


def _number(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x) + 1)


def _several(self: Any, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return self.act(self.conv(x) + y), {"y": self.act(self.other(y))}


# The way of writing, how many operators of chains run, and whether it is reported as unfused.
WAYS: dict[Callable[..., Any], tuple[int, bool]] = {
    _counts: (0, True),
    _prints: (0, True),
    _appends: (0, True),
    _random: (0, True),
    _changes_its_list: (0, True),
    _reads_a_dict: (0, True),
    _looks_at_values: (0, True),
    _looks_at_the_size: (0, True),
    _under_autocast: (0, True),
    _under_another_grad_mode: (0, True),
    _asks_for_the_grad_mode: (0, True),
    _asks_for_determinism: (0, True),
    _random_tensor: (0, True),
    _tensor_of_its_own: (0, True),
    _tensor_of_the_default_dtype: (0, True),
    _tensor_from_outside: (0, True),
    _norm_of_another_rank: (0, False),
    _uses_the_list: (1, False),
    _asks_for_types: (0, True),
    _two_uses: (0, False),
    _changes_the_input: (0, False),
    _residual_first: (1, False),
    _into_the_shortcut: (1, False),
    _functions: (1, False),  # a residual in channels_last is laid out in another way
    _leaky: (0, False),
    _number: (0, False),
    _several: (2, False),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_ways_of_writing(way: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(4)
    block = with_statistics(Pieces(way))
    fused, unfused = bninv.patch(copy.deepcopy(block)), bninv.patch(block, fuse=False)
    operators_of_chains, reported = WAYS[way]
    args = (Y, Y.flip(0)) if way is _several else (Y,)
    calls = []
    for _ in range(3):
        appended = len(COUNTER)
        results = []
        for model in (fused, unfused):
            random.seed(0)
            torch.manual_seed(0)
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore", bninv.NotInvariantWarning)  # of random numbers
                inputs = [x.clone() for x in args]
                results.append((model(*inputs), inputs))
        for one, other in zip(*map(tensors, results), strict=True):
            assert_bitwise_equal(one, other)
        calls.append(len(COUNTER) - appended)
    assert fused.calls == unfused.calls
    assert fused.numbers == unfused.numbers
    lines = capsys.readouterr().out.count("forward")
    assert lines == (6 if way is _prints else 0)
    assert calls == [2 if way is _appends else 0] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)
        count = operators(fused, *args)
    assert count["conv2d_fused"] + count["linear_fused"] == operators_of_chains
    assert bool(bninv.fusion(fused).unfused) == reported, bninv.fusion(fused)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


class Dense(nn.Module):
    """Takes a tensor or a list of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, xs: Tensor | list[Tensor], twice: bool = False) -> Tensor:
        xs = [xs] if isinstance(xs, Tensor) else xs
        x = self.act(self.norm(torch.cat(xs, 0)))
        return self.conv(self.conv(x) if twice else x)


def test_structures_of_arguments() -> None:
    dense = with_statistics(Dense())
    fused, unfused = bninv.patch(copy.deepcopy(dense)), bninv.patch(dense, fuse=False)
    with torch.inference_mode():
        for args in ((Y,), ([Y],), ([Y, Y],), ([Y, Y, Y], True), (Y, False)):
            assert operators(fused, *args)["batch_norm"] == 1
            assert "relu" not in operators(fused, *args)
            assert_bitwise_equal(fused(*args), unfused(*args))
        assert_bitwise_equal(fused(xs=Y, twice=True), unfused(Y, True))
        for count in range(4, 20):  # more than a block keeps programs for
            assert_bitwise_equal(fused([Y] * count), unfused([Y] * count))


class Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return torch.erfc(x)  # this line is named


def test_uncovered_calls_are_named_by_the_model_s_line() -> None:
    lines = []
    for fuse in (True, False):
        model = bninv.patch(Wrong().eval(), fuse=fuse)
        with pytest.warns(bninv.NotInvariantWarning) as caught, torch.no_grad():
            model(Y)
        assert {str(w.message).partition(" ")[0] for w in caught} == {"aten::erfc"}
        lines.append((bninv.uncovered(model)[0].first, caught[0].filename, caught[0].lineno))
        with pytest.raises(bninv.NotInvariantError, match=r"erfc is not covered"):
            bninv.patch(Wrong().eval(), fuse=fuse, strict=True)(Y)
    assert lines[0] == lines[1]
    assert lines[0][1] == __file__


def test_errors_come_through(fused: nn.Module) -> None:
    fused(X)
    with pytest.raises(RuntimeError, match="`input` has 5 channels"):
        fused(torch.randn(1, 5, 9, 9))
    assert torch._C._len_torch_function_stack() == 0
    fused(X)


# ---- Code that is met by a recording in other ways than by a tensor ------------------------------


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2


class Custom(Pieces):
    """Its forward is a method, with an `isinstance` of the recording's own."""

    FLAG = True
    SEEN: list[int] = []

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__(forward)
        self.factor: Any = 0.0
        self.gamma: Any = nn.Parameter(torch.full((1,), 3.0))


def method(body: str) -> type[Custom]:
    """A block with that code after `y = self.act(self.norm(self.conv(x)))`."""
    source = f"def forward(self, x, *rest):\n    y = self.act(self.norm(self.conv(x)))\n{body}"
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor, "__name__": "user"}
    names |= {"Doubled": Doubled, "BIG": 1000, "NAME": "relu", "SMALL": 0.5}
    exec(source, names)
    return type("Custom", (Custom,), {"forward": names["forward"], "__module__": "user"})


# What a forward may go on with; where recording it would be wrong, the block has to be left alone.
BODIES = {
    "an autograd function": "    return Doubled.apply(y)",
    "a tensor of a tensor": "    return torch.as_tensor(y) * 2",
    "a checkpoint": (
        "    from torch.utils.checkpoint import checkpoint\n"
        "    return checkpoint(self.act, y, use_reentrant=True)"
    ),
    "a dtype compared by is": "    return y * 2 if x.dtype is torch.float32 else y",
    "a dtype compared": "    return y * 2 if x.dtype == torch.float32 else y",
    "a dtype in a set": "    return y * 2 if x.dtype in {torch.float32} else y",
    "a dtype as text": "    return y * 2 if str(x.dtype) == 'torch.float32' else y",
    "a device in a format": "    return y * 2 if f'{x.device}' == 'cpu' else y",
    "a device looked up": "    return y * {'cpu': 2.0}.get(x.device.type, 1.0)",
    "a type compared": "    return y * 2 if type(x) == Tensor else y",
    "a parameter's class": "    return y * 2 if isinstance(self.gamma, nn.Parameter) else y",
    "no gradient": "    return y * 2 if x.grad_fn is None else y",
    "one tensor or two": "    return y * 2 if self.act(y) is y else y",
    "an attribute that a tensor lacks": "    return y.logits if hasattr(y, 'logits') else y",
    "an error handled": (
        "    try:\n        n = len(x)\n    except TypeError:\n        n = 100\n    return y * n"
    ),
    "a context": "    with torch.autocast('cpu', enabled=False):\n        return self.conv(y)",
    "sizes unpacked": "    b, c, h, w = x.shape\n    return y.reshape(b, c * h * w)",
    "too few variables": "    b, c = x.shape\n    return y",
    "a size read before it changes": (
        "    s = y.shape\n    y = y.unsqueeze(0)\n    y.squeeze_(0)\n    return y.reshape(s)"
    ),
    "globals": "    return y * SMALL if BIG == 1000 and NAME == 'relu' else y",
    "a class's flag": "    return y * 2 if self.FLAG else y",
    "a class's list": "    self.SEEN.append(1)\n    return y",
    "a number of the block's": "    return y * self.factor",
    "a parameter": "    return y * self.gamma",
    "a module that may come": "    return self.late(y) if hasattr(self, 'late') else y",
    "keyword arguments": "    return self.act(input=self.norm(input=self.conv(input=y)))",
    "a view of the sum": "    return self.act(x + self.norm(self.conv(y))).view(-1)",
    "an ordered dict": "    import collections\n    return collections.OrderedDict(y=y)",
    "modules counted": "    return y * len(list(self.children()))",
    "a list that is added to": "    rest[0].append(y)\n    return y",
    "a list that is taken from": "    return y + rest[0].pop()",
}
LATER: dict[str, Callable[[Any], Any]] = {
    "a class's flag": lambda m: setattr(type(m), "FLAG", False),
    "a number of the block's": lambda m: setattr(m, "factor", -0.0),
    "a parameter": lambda m: setattr(m, "gamma", None),
    "a module that may come": lambda m: setattr(m, "late", nn.ReLU().eval()),
}


def outcome(block: nn.Module, x: Tensor) -> tuple[Any, Any]:
    """What a call returns or raises, and what becomes of a list that it is handed."""
    xs = [x.clone()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = block(x.clone(), xs)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            return f"{type(error).__name__}: {error}", [len(xs)]
    return (type(result), *tensors(result)), [len(xs)]


def assert_same_outcome(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    (a, xs), (b, ys) = outcome(one, x), outcome(other, x)
    assert xs == ys
    assert isinstance(a, str) == isinstance(b, str), (a, b)
    if isinstance(a, str):
        assert a == b
        return
    assert a[0] is b[0]
    for left, right in zip(a[1:], b[1:], strict=True):
        assert_bitwise_equal(left, right)
        assert left.stride() == right.stride()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", BODIES)
def test_code(name: str, memory_format: torch.memory_format) -> None:
    blocks = []
    for fuse in (True, False):
        torch.manual_seed(5)
        block = with_statistics(method(BODIES[name])(_leaky))
        blocks.append(bninv.patch(block, fuse=fuse))
    x = Y.contiguous(memory_format=memory_format)
    for step in range(4):
        assert_same_outcome(*blocks, x)
        if step == 1 and name in LATER:
            for block in blocks:
                LATER[name](block)
    assert [len(type(b).SEEN) for b in blocks] == [8 if name == "a class's list" else 0] * 2
    Custom.SEEN.clear()
    assert torch._C._len_torch_function_stack() == 0


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


def test_autocast_that_is_switched_off_inside() -> None:
    blocks = []
    for fuse in (True, False):
        torch.manual_seed(5)
        block = with_statistics(method(BODIES["a context"])(_leaky))
        blocks.append(bninv.patch(block, fuse=fuse))
    assert_same_outcome(*blocks, Y)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_outcome(*blocks, Y)
