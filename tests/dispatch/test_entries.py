"""Whichever way a patched model is entered, what runs then is covered, or a warning names it.

An auditor below everything else, a TorchDispatchMode, counts the operators of PyTorch's that run
where bninv has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import warnings
from collections import UserDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import timm.layers
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bninv
from bninv.testing import assert_bitwise_equal

MOVING = ("addmm", "mm", "linear", "convolution", "conv2d", "mean", "sum", "sigmoid", "bmm")


class Auditor(TorchDispatchMode):
    """Which of those operators ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten" and func.overloadpacket.__name__ in MOVING:
            self.ran.append(str(func))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def audited() -> Iterator[None]:
    auditor = Auditor()
    with auditor, warnings.catch_warnings():
        warnings.simplefilter("error", bninv.NotInvariantWarning)
        yield
    assert auditor.ran == []


@dataclass
class Sample:
    pixels: Tensor


class Net(nn.Module):
    """A model with an entry of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.p = nn.Parameter(torch.randn(8, 37))
        self.kept: Tensor | None = None

    def head(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.act(self.norm(self.conv(x))).mean((2, 3)) @ self.p)

    def scaled(self, x: Tensor, by: float) -> Tensor:
        return self.head(x) * by

    twice = functools.partialmethod(scaled, by=2.0)
    forward = functools.partialmethod(scaled, by=1.0)

    @staticmethod
    def pooled(x: Tensor) -> Tensor:
        return torch.sigmoid(x.mean((2, 3)))

    @classmethod
    def pooled_by_class(cls, x: Tensor) -> Tensor:
        return cls.pooled(x)

    @property
    def last(self) -> Tensor:
        assert self.kept is not None
        return self.head(self.kept)

    @functools.cached_property
    def first(self) -> Tensor:
        assert self.kept is not None
        return self.head(self.kept)

    def __getitem__(self, x: Tensor) -> Tensor:
        return self.head(x)

    def stream(self, x: Tensor) -> Iterator[Tensor]:
        other = yield self.head(x)
        yield self.head(other)

    def lazily(self, x: Tensor) -> Iterator[Tensor]:
        return (torch.sigmoid(x.mean((2, 3))) for _ in range(2))

    async def later(self, x: Tensor) -> Tensor:
        await asyncio.sleep(0)
        return self.head(x)

    async def stream_later(self, x: Tensor) -> AsyncIterator[Tensor]:
        yield self.head(x)
        await asyncio.sleep(0)
        yield self.head(x)

    def of_arrays(self, arrays: Any) -> Tensor:
        return self.head(torch.stack([torch.from_numpy(a) for a in arrays]))

    def of_sample(self, sample: Any) -> Tensor:
        return self.head(sample.pixels if isinstance(sample, Sample) else sample["pixels"])


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 37)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Called(nn.Module):
    """With a `__call__` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.randn(8, 37))

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().__call__(x.mean((2, 3))))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.p


def _stream(net: Net, x: Tensor) -> Tensor:
    stream = net.stream(x)
    next(stream)
    return stream.send(x)


def _property(name: str) -> Callable[[Net, Tensor], Tensor]:
    def get(net: Net, x: Tensor) -> Tensor:
        net.kept = x
        vars(net).pop("first", None)
        return getattr(net, name)

    return get


def _stream_later(net: Net, x: Tensor) -> Tensor:
    async def last() -> Tensor:
        return [y async for y in net.stream_later(x)][-1]

    return asyncio.run(last())


def _hooked(on: str, after: bool) -> Callable[[Net, Tensor], Tensor]:
    def run(net: Net, x: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def hook(module: nn.Module, args: Any, *result: Any) -> None:
            value = result[0] if result else args[0]
            while value.dim() > 1:
                value = value.mean(-1)
            kept.append(torch.sigmoid(value))

        layer = net.get_submodule(on)
        add = layer.register_forward_hook if after else layer.register_forward_pre_hook
        handle = add(hook)
        net(x)
        handle.remove()
        return kept[0]

    return run


def _replaced(net: Net, x: Tensor) -> Tensor:
    """Of layers, by stock ones, below a container."""
    own = list(net.children())
    model: Any = net
    model.conv, layers = nn.Sequential(nn.Identity(), own[0]), own
    bninv.patch(net)
    model.conv[1] = bninv.unpatch(copy.deepcopy(layers[0]))
    result = net(x)
    model.conv = layers[0]
    return result


ENTRIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "call": lambda net, x: net(x),
    "forward": lambda net, x: net.forward(x),
    "method": lambda net, x: net.head(x),
    "partialmethod": lambda net, x: net.twice(x),
    "staticmethod": lambda net, x: net.pooled(x),
    "classmethod": lambda net, x: net.pooled_by_class(x),
    "property": _property("last"),
    "cached_property": _property("first"),
    "operator": lambda net, x: net[x],
    "generator": _stream,
    "generator expression": lambda net, x: list(net.lazily(x))[-1],
    "coroutine": lambda net, x: asyncio.run(net.later(x)),
    "asynchronous generator": _stream_later,
    "no tensor": lambda net, x: net.of_arrays(list(x.numpy())),
    "dataclass": lambda net, x: net.of_sample(Sample(x)),
    "mapping": lambda net, x: net.of_sample(UserDict(pixels=x)),
    "hook on the model": _hooked("", True),
    "hook before the model": _hooked("", False),
    "hook on a layer": _hooked("norm", True),
    "hook before a layer": _hooked("act", False),
    "layer with a hook": lambda net, x: _hooked("", True)(net.conv, x),
    "replaced layer": _replaced,
}
X = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def make(**options: Any) -> Net:
    torch.manual_seed(0)
    return bninv.patch(Net().eval(), **options)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("options", [{}, {"fuse": False}, {"trust": (__name__,)}], ids=str)
@pytest.mark.parametrize("grad_mode", ["no_grad", "inference_mode"])
def test_every_entry(entry: str, options: dict[str, Any], grad_mode: str) -> None:
    run, net = ENTRIES[entry], make(**options)
    with getattr(torch, grad_mode)(), audited():
        together, alone = run(net, X), run(net, X[:1])
    assert_bitwise_equal(together[:1], alone, entry)
    assert bninv.uncovered(net) == []


def test_a_call_of_its_own() -> None:
    net, x = bninv.patch(Called().eval()), torch.randn(5, 8, 3, 3)
    with torch.no_grad(), audited():
        together, alone = net(x), net(x[:1])
    assert_bitwise_equal(together[:1], alone)


def test_a_generator_is_left_between_its_steps() -> None:
    stream = make().stream(X)
    next(stream)
    assert bninv._protection.active() is None
    with pytest.raises(ZeroDivisionError):
        stream.throw(ZeroDivisionError())
    assert bninv._protection.active() is None


def test_a_coroutine_can_be_told_from_a_function() -> None:
    assert asyncio.iscoroutinefunction(make().later)


def test_a_replaced_forward_runs() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(x))

    for trust in ((), (__name__,)):
        net = bninv.patch(One().eval(), trust=trust)
        with torch.no_grad():
            before, forward = net(X), One.forward
            One.forward = lambda self, x: self.act(self.conv(x)) * 2  # type: ignore[method-assign]
            after = net(X)
            One.forward = forward  # type: ignore[method-assign]
        assert_bitwise_equal(after, before * 2)


def test_a_layers_replaced_forward_runs() -> None:
    class Doubled(nn.Conv2d):
        pass

    net = bninv.patch(nn.Sequential(Doubled(3, 4, 1), nn.ReLU()).eval())
    with torch.no_grad(), audited():
        before = net(X)
        setattr(Doubled, "forward", lambda self, x: nn.Conv2d.forward(self, x) * 2)
        after = net(X)
    assert_bitwise_equal(after, before * 2)


def test_names_are_the_stock_ones() -> None:
    net, stock = make(), Net()
    for patched, module in zip(net.modules(), stock.modules(), strict=True):
        assert type(patched).__name__ == type(module).__name__
        assert type(patched).__qualname__ == type(module).__qualname__
    assert "BninvNet(" in str(net) and "(conv): BninvConv2d(" in str(net)


def test_a_registry_of_subclasses_sees_no_patched_class() -> None:
    class Registered(nn.Module):
        seen: list[type] = []

        def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.seen.append(cls)

    class Pool(Registered, name="pool"):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    bninv.patch(Pool().eval())
    assert Registered.seen == [Pool]


def test_a_layer_replaced_inside_of_a_layer() -> None:
    norm = timm.layers.BatchNormAct2d(8)
    net = bninv.patch(nn.Sequential(nn.Conv2d(3, 8, 3), norm).eval(), fuse=False)
    net[1].act = nn.Sigmoid()
    with torch.no_grad(), audited():
        together, alone = net(X), net(X[:1])
    assert_bitwise_equal(together[:1], alone)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_what_is_computed_of_parameters_alone_is_no_alarm() -> None:
    net = nn.Sequential(torch.nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU())
    bninv.patch(net.eval())
    with torch.no_grad(), audited():
        together, alone = net(X), net(X[:1])
    assert_bitwise_equal(together[:1], alone)
    assert bninv.uncovered(net) == []


def test_a_recompiled_graph_is_protected() -> None:
    graph = torch.fx.symbolic_trace(Plain().eval())
    net = bninv.patch(graph)
    (product,) = (node for node in net.graph.nodes if node.target == "linear")
    with net.graph.inserting_after(product):
        new = net.graph.call_function(torch.sigmoid, (product,))
    product.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    net.recompile()
    x = torch.randn(5, 64)
    for run in (net, net.forward):
        with torch.no_grad(), audited():
            together, alone = run(x), run(x[:1])
        assert_bitwise_equal(together[:1], alone)
        assert together.min() >= 0


def test_properties_can_still_be_set() -> None:
    class Scaled(Plain):
        def __init__(self) -> None:
            super().__init__()
            self._by = 1.0

        @property
        def by(self) -> float:
            """A factor."""
            return self._by

        @by.setter
        def by(self, value: float) -> None:
            self._by = value

    net: Any = bninv.patch(Scaled().eval())
    net.by = 3.0
    assert net.by == 3.0 and type(net).by.__doc__ == "A factor."


def test_descriptors_that_are_set_stay_as_they_are() -> None:
    class Clamped:
        def __get__(self, module: Any, owner: type) -> Any:
            return self if module is None else module.__dict__["_limit"]

        def __set__(self, module: Any, value: float) -> None:
            module.__dict__["_limit"] = min(value, 1.0)

    class Limited(nn.Module):
        limit = Clamped()

        def __init__(self) -> None:
            super().__init__()
            self.limit = 3.0

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x.mean((2, 3))) * self.limit

    net = bninv.patch(Limited().eval())
    net.limit = 2.0
    assert net.limit == 1.0
    net.limit = 0.5
    with torch.no_grad(), audited():
        result = net(X)
    assert result.max() <= 0.5


# ---- Training mode -------------------------------------------------------------------------------


def test_training_mode_without_gradients_is_covered() -> None:
    layers = (nn.Conv2d(3, 64, 3), nn.GroupNorm(4, 64), nn.GELU(), nn.AdaptiveAvgPool2d(1))
    net = bninv.patch(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 37), nn.Softmax(-1)))
    assert net.training
    with torch.no_grad(), audited():
        together, alone = net(X), net(X[:1])
    assert_bitwise_equal(together[:1], alone)
    assert net(X).requires_grad
    net(X).sum().backward()  # stock's


def test_a_patched_module_does_as_a_stock_one_inside_invariant() -> None:
    net = bninv.patch(nn.Sequential(nn.Linear(96, 384), nn.GELU(), nn.Linear(384, 96)))
    x = torch.randn(5, 96)
    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode, bninv.invariant(), audited():
            together, alone = net(x), net(x[:1])
        assert_bitwise_equal(together[:1].detach(), alone.detach())


@pytest.mark.parametrize(
    ("layer", "differs"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.InstanceNorm2d(3, track_running_stats=True), True),
        (nn.InstanceNorm2d(3), False),
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (nn.GroupNorm(1, 3), False),
    ],
    ids=str,
)
def test_what_differs_in_training_mode_is_named(layer: nn.Module, differs: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), layer)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        bninv.patch(net)
    assert [str(w.message).endswith(": 1. Call model.eval()") for w in seen] == [True] * differs
    with torch.no_grad(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        net(X)
        net(X)
    assert len(seen) == differs
    net.eval()
    with torch.no_grad(), audited():
        net(X)


def test_statistics_are_still_gathered() -> None:
    with pytest.warns(bninv.NotInvariantWarning, match="training mode"):
        net = bninv.patch(nn.Sequential(nn.BatchNorm2d(3)))
    before = net[0].running_mean.clone()
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="batch_norm"):
        net(X)
    assert not torch.equal(net[0].running_mean, before)


# ---- Any of these together -----------------------------------------------------------------------


@given(st.data())
def test_any_model_by_any_entry(data: st.DataObject) -> None:
    """Containers of containers of models, hooked anywhere, in any mode."""
    torch.manual_seed(0)
    leaf, kept = Net(), []
    wrap = {
        "sequential": lambda m: nn.Sequential(nn.Identity(), m),
        "list": lambda m: Listed(m),
        "none": lambda m: m,
    }
    whole: nn.Module = leaf
    for kind in data.draw(st.lists(st.sampled_from(list(wrap)), max_size=3)):
        whole = wrap[kind](whole)
    whole.eval()
    options = data.draw(st.sampled_from([{}, {"fuse": False}, {"trust": (__name__,)}]))
    bninv.patch(whole, **options)
    for module in data.draw(st.lists(st.sampled_from(list(whole.modules())), max_size=3)):
        if module is not leaf.norm:
            module.training = data.draw(st.booleans())
    for module in data.draw(st.lists(st.sampled_from(list(whole.modules())), max_size=2)):
        if type(module).__name__ != "ModuleList":
            module.register_forward_hook(
                lambda *args: kept.append(args[1][0].sigmoid().flatten(1).mean(1))
            )
    entry = data.draw(st.sampled_from(["whole", *ENTRIES]))
    run = (lambda net, x: whole(x)) if entry == "whole" else ENTRIES[entry]
    with torch.no_grad(), audited():
        together, alone = run(leaf, X), run(leaf, X[:1])
    if together.dim() > 0:
        assert_bitwise_equal(together[:1], alone, entry)


class Listed(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([module])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
