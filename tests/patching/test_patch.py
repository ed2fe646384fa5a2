"""bninv.patch changes what a model computes with, and nothing else about the model."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable

import pytest
import safetensors.torch
import timm.utils
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import remove_parametrizations

import bninv
from bninv import patching
from bninv.dispatch import Protected
from bninv.modules.base import Patched
from bninv.testing import assert_batch_invariant, assert_bitwise_equal


class Net(nn.Module):
    """A small convolutional network with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(20)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(20, 20, 3, padding=1, groups=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = x + self.conv(x)
        return self.head(self.pool(x).flatten(1))


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net = Net().eval()
    net.norm.running_mean.uniform_(-0.5, 0.5)
    net.norm.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def net() -> Net:
    return make_net()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, 19, 17, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def strides(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: p.stride() for name, p in model.named_parameters()}


# ---- The model stays the same object -------------------------------------------------------------


def test_same_objects_and_isinstance(net: Net) -> None:
    modules, parameters = list(net.modules()), list(net.parameters())
    assert bninv.patch(net) is net
    assert all(a is b for a, b in zip(net.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert isinstance(net.stem, nn.Conv2d) and isinstance(net.norm, nn.BatchNorm2d)
    assert isinstance(net, Net)


def test_idempotent(net: Net, x: Tensor) -> None:
    bninv.patch(net)
    classes, layout, bits = [type(m) for m in net.modules()], strides(net), net(x)
    bninv.patch(net)
    assert [type(m) for m in net.modules()] == classes
    assert strides(net) == layout
    assert_bitwise_equal(net(x), bits)
    # and one unpatch undoes both
    assert not any(isinstance(m, Patched) for m in bninv.unpatch(net).modules())


def test_batch_invariant(net: Net, x: Tensor) -> None:
    assert_batch_invariant(bninv.patch(net), x, batch_sizes=(1, 2, 5, 8))


def test_close_to_stock(net: Net, x: Tensor) -> None:
    stock = net(x)
    torch.testing.assert_close(bninv.patch(net)(x), stock, rtol=1e-5, atol=1e-5)


def test_unpatch_gives_stock_bits_and_strides_back(net: Net, x: Tensor) -> None:
    net.to(memory_format=torch.channels_last)
    before, layout = net(x), strides(net)
    bninv.patch(net)
    assert strides(net) != layout  # the weights did move to panels
    bninv.unpatch(net)
    assert strides(net) == layout
    assert [type(m) for m in net.modules()] == [type(m) for m in make_net().modules()]
    assert_bitwise_equal(net(x), before)
    assert "_bninv_strides" not in vars(net.stem)


def test_weights_become_panels(net: Net) -> None:
    bninv.patch(net)
    assert net.stem.weight.stride() == (1, 20, 3 * 3 * 20, 3 * 20)
    assert net.head.weight.stride() == (1, 7)


def test_memory_shared_by_others_is_left_alone(net: Net, x: Tensor) -> None:
    flat = torch.randn(2 * net.head.weight.numel())
    net.head.weight.data = flat[: net.head.weight.numel()].view_as(net.head.weight)
    bninv.patch(net)
    assert net.head.weight.data_ptr() == flat.data_ptr()
    former = net(x)
    flat.mul_(2)
    assert not torch.equal(net(x), former)


def test_hooks_run(net: Net, x: Tensor) -> None:
    calls: list[str] = []
    net.norm.register_forward_pre_hook(lambda m, a: calls.append("before"))
    bninv.patch(net)
    net.conv.register_forward_hook(lambda m, a, y: calls.append("after"))
    net(x)
    assert calls == ["before", "after"]


def test_shared_module_is_patched_once(x: Tensor) -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv).eval()
    stock = model(x)
    bninv.patch(model)
    assert model[0] is model[2]
    torch.testing.assert_close(model(x), stock)
    assert type(bninv.unpatch(model)[2]) is nn.Conv2d
    assert_bitwise_equal(model(x), stock)


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: _save_and_load(m),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_are_patched_too(
    net: Net, x: Tensor, duplicate: Callable[[nn.Module], nn.Module]
) -> None:
    bninv.patch(net)
    other = duplicate(net)
    assert [type(m) for m in other.modules()] == [type(m) for m in net.modules()]
    assert strides(other) == strides(net)
    assert_bitwise_equal(other(x), net(x))
    stock = bninv.unpatch(other)
    assert strides(stock) == strides(make_net())
    assert_bitwise_equal(stock(x), make_net()(x))


def _save_and_load(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_data_parallel_replica(net: Net, x: Tensor) -> None:
    # What nn.DataParallel makes on each device; its parameters are plain tensors of any strides.
    bninv.patch(net)
    replica = net.head._replicate_for_data_parallel()
    replica.weight = net.head.weight.detach().clone(memory_format=torch.contiguous_format)
    replica.bias = net.head.bias.detach()
    features = torch.randn(4, 20)
    assert_bitwise_equal(replica(features), net.head(features))


def test_state_dict_and_safetensors(net: Net, x: Tensor, tmp_path) -> None:
    stock = copy.deepcopy(net.state_dict())
    bninv.patch(net)
    patched = bninv.contiguous_state_dict(net)
    assert list(patched) == list(stock)
    for name, value in patched.items():
        assert value.is_contiguous(), name
        assert_bitwise_equal(value, stock[name], name)
        assert_bitwise_equal(net.state_dict()[name].contiguous(), value, name)
    assert net.state_dict(keep_vars=True)["stem.weight"] is net.stem.weight
    safetensors.torch.save_file(patched, tmp_path / "net.safetensors")
    other = bninv.patch(make_net(seed=3))
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    assert_bitwise_equal(other(x), net(x))


def test_what_is_written_through_state_dict_arrives(net: Net, x: Tensor) -> None:
    """As averages of weights and checkpoints loaded in place do it."""
    donor = make_net(seed=5)
    bninv.patch(net)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(donor.state_dict()[name])
    assert_bitwise_equal(net(x), bninv.patch(donor)(x))


def test_an_average_of_weights(net: Net) -> None:
    average = timm.utils.ModelEmaV2(net, decay=0.5)
    bninv.patch(average.module)
    before = [p.clone() for p in average.module.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    average.update(net)
    for old, new in zip(before, average.module.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


@pytest.mark.parametrize("first", ["patch", "weight_norm"])
@pytest.mark.parametrize("last", ["unpatch", "remove"])
def test_parametrizations_in_any_order(first: str, last: str) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3)).eval(), torch.randn(2, 3, 8, 8)
    steps = [bninv.patch, lambda net: parametrizations.weight_norm(net[0])]
    for step in steps if first == "patch" else steps[::-1]:
        step(net)
    expected = net(x)
    assert isinstance(net[0], nn.Conv2d) and "BninvConv2d" in str(net)
    ends = [bninv.unpatch, lambda net: remove_parametrizations(net[0], "weight")]
    for step in ends if last == "remove" else ends[::-1]:
        step(net)
        torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)
    assert type(net[0]) is nn.Conv2d and type(net) is nn.Sequential


def test_a_lost_layout_comes_back(net: Net, x: Tensor) -> None:
    panel = bninv.patch(net).stem.weight.stride()
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    assert net.stem.weight.stride() != panel
    assert_bitwise_equal(net(x), expected)
    assert bninv.patch(net).stem.weight.stride() == panel
    assert_bitwise_equal(net(x), expected)


def test_training_mode_is_stock(net: Net, x: Tensor) -> None:
    stock = copy.deepcopy(net).train()
    bninv.patch(net).train()
    # Stock bits depend on the weights' strides, so these are compared by value.
    with torch.enable_grad():
        out, expected = net(x), stock(x)
        torch.testing.assert_close(out, expected)
        out.sum().backward()
        expected.sum().backward()
    torch.testing.assert_close(net.stem.weight.grad, stock.stem.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.norm.running_mean, stock.norm.running_mean)
    assert net.norm.num_batches_tracked == 1


# ---- A changed weight is never stale -------------------------------------------------------------


def _load(net: Net, donor: Net) -> None:
    net.load_state_dict(donor.state_dict())


def _load_assign(net: Net, donor: Net) -> None:
    net.load_state_dict(donor.state_dict(), assign=True)


def _in_place(net: Net, donor: Net) -> None:
    for p, q in zip(net.parameters(), donor.parameters(), strict=True):
        p.copy_(q)


def _through_data(net: Net, donor: Net) -> None:
    for p, q in zip(net.parameters(), donor.parameters(), strict=True):
        p.data.mul_(0).add_(q)


def _data_replaced(net: Net, donor: Net) -> None:
    for p, q in zip(net.parameters(), donor.parameters(), strict=True):
        p.data = q.data.clone()


def _new_parameters(net: Net, donor: Net) -> None:
    for m, n in zip(net.modules(), donor.modules(), strict=True):
        for name, q in list(n._parameters.items()):
            if q is not None:
                setattr(m, name, nn.Parameter(q.detach().clone()))


def _there_and_back(net: Net, donor: Net) -> None:
    _in_place(net, donor)
    net.to(torch.float64).to(torch.float32).to(memory_format=torch.channels_last)


def _under_inference_mode(net: Net, donor: Net) -> None:
    with torch.inference_mode():
        for p, q in zip(net.parameters(), donor.parameters(), strict=True):
            p.data.copy_(q)


@pytest.mark.parametrize(
    "change",
    [
        _load,
        _load_assign,
        _in_place,
        _through_data,
        _data_replaced,
        _new_parameters,
        _there_and_back,
        _under_inference_mode,
    ],
)
def test_changed_weights_count_at_the_next_call(
    net: Net, x: Tensor, change: Callable[[Net, Net], None]
) -> None:
    donor = make_net(seed=5)
    # Statistics stay the model's own: only some of the changes above reach buffers.
    donor.norm.load_state_dict({**donor.norm.state_dict(), **dict(net.norm.named_buffers())})
    bninv.patch(net)
    former = net(x)
    change(net, donor)
    result = net(x)
    assert not torch.equal(result, former)
    assert_bitwise_equal(result, bninv.patch(donor)(x))


def test_model_made_under_inference_mode(x: Tensor) -> None:
    with torch.inference_mode():
        inference = make_net()
        assert inference.stem.weight.is_inference()
        result = bninv.patch(inference)(x).clone()
    assert inference.stem.weight.stride()[0] == 1
    assert_bitwise_equal(result, bninv.patch(make_net())(x))


# ---- What is patched, what is refused ------------------------------------------------------------


def test_filter_fn(net: Net) -> None:
    seen: list[str] = []

    def only_norms(module: nn.Module, name: str) -> bool:
        seen.append(name)
        return isinstance(module, nn.BatchNorm2d)

    bninv.patch(net, filter_fn=only_norms)
    assert "norm" in seen and "stem" in seen
    patched = [name for name, m in net.named_modules() if isinstance(m, Patched)]
    assert patched == ["norm"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.BatchNorm2d(4, track_running_stats=False), "running statistics"),
        (nn.Softmax(), "its dim is None"),
        (nn.MaxUnpool2d(2), "no kernel yet"),
        (nn.FractionalMaxPool2d(2, 0.5), "no kernel yet"),
        (nn.Conv2d(3, 4, 1, dtype=torch.complex64), "complex64"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_cannot_be_made_invariant_is_named(module: nn.Module, reason: str) -> None:
    model = nn.Sequential()
    model.add_module("odd_one", module)
    model.add_module("conv", nn.Conv2d(3, 3, 1))
    with pytest.raises(bninv.NotInvariantError, match=reason) as error:
        bninv.patch(model, strict=True)
    assert "odd_one" in str(error.value)
    assert type(model.conv) is nn.Conv2d, "strict changed something before it raised"
    with pytest.warns(bninv.NotInvariantWarning, match=reason) as record:
        bninv.patch(model)
    assert len(record) == 1
    assert type(model.odd_one) is type(module)
    assert isinstance(model.conv, Patched)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "lazy",
    [
        lambda: nn.LazyConv1d(4, 3),
        lambda: nn.LazyConv2d(4, 3),
        lambda: nn.LazyConvTranspose2d(4, 3),
        lambda: nn.LazyLinear(4),
        nn.LazyBatchNorm2d,
        nn.LazyInstanceNorm2d,
    ],
)
def test_lazy_modules_run_first(lazy: Callable[[], nn.Module], strict: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Sequential(lazy()))
    strides = model[0].weight.stride()
    with pytest.raises(bninv.NotInvariantError, match=r"2\.0 \(Lazy\w+\); run the model once"):
        bninv.patch(model, strict=strict)
    assert not any(isinstance(module, Patched) for module in model.modules())
    assert model[0].weight.stride() == strides
    bninv.patch(model, filter_fn=lambda module, name: not name.startswith("2"))
    assert isinstance(model[0], Patched)


def test_lazy_modules_that_have_run() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU()).eval()
    model(torch.randn(2, 3, 8, 8))
    bninv.patch(model, strict=True)
    assert all(isinstance(module, Patched) for module in model)


def test_replaced_forward_is_refused(net: Net) -> None:
    vars(net.conv)["forward"] = lambda x: x
    with pytest.raises(bninv.NotInvariantError, match="replaced on the instance"):
        bninv.patch(net, strict=True)


def test_subclass_with_arithmetic_of_its_own_is_not_its_base() -> None:
    class Scaled(nn.Conv2d):
        """Its calls are caught, its arithmetic stays its own."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    class Quiet(nn.Conv2d):
        """Inherits its forward, so it is covered."""

    class Odd(nn.Conv2d):
        def _conv_forward(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return super()._conv_forward(x, w * 2, b)

    model = nn.Sequential(Scaled(3, 3, 1), Quiet(3, 3, 1), Odd(3, 3, 1)).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = bninv.functional.conv2d(x, model[0].weight, model[0].bias) * 2
    with pytest.warns(bninv.NotInvariantWarning) as record:
        bninv.patch(model)
    assert "Odd" in str(record[0].message) and "_conv_forward" in str(record[0].message)
    assert "Scaled" not in str(record[0].message)
    assert type(model[2]) is Odd
    assert isinstance(model[0], Protected) and isinstance(model[0], Scaled)
    assert_bitwise_equal(model[0](x), expected)
    assert isinstance(model[1], Quiet) and isinstance(model[1], Patched)


def test_a_model_on_a_gpu(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = (torch.device("cuda", 0), torch.float32)
    monkeypatch.setattr("bninv.patching.plan._device_and_dtype", lambda *_: on_gpu)
    monkeypatch.setattr("bninv.building.extension.has_cuda", lambda: True)
    assert patching.survey(net) == []
    monkeypatch.setattr("bninv.building.extension.has_cuda", lambda: False)
    left = {u.name: u.reason for u in patching.survey(net)}
    assert set(left) == {"stem", "norm", "act", "conv", "pool", "head"}
    assert all("compiled without CUDA here" in reason for reason in left.values())
    elsewhere = (torch.device("mps", 0), torch.float32)
    monkeypatch.setattr("bninv.patching.plan._device_and_dtype", lambda *_: elsewhere)
    left = {u.name: u.reason for u in patching.survey(net)}
    assert "no kernel for mps yet" in left["norm"]


def test_nothing_to_warn_about(net: Net) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bninv.patch(nn.Sequential(net, nn.Dropout(0.5), nn.Flatten(), nn.Identity()).eval())


def test_not_a_module() -> None:
    with pytest.raises(TypeError, match="`model` is int"):
        bninv.patch(3)  # type: ignore[type-var]


# ---- Gradients, compilers ------------------------------------------------------------------------


def test_forward_with_gradients_has_the_same_bits_and_no_backward(net: Net, x: Tensor) -> None:
    expected = bninv.patch(net)(x)
    with torch.enable_grad():
        result = net(x)
        assert_bitwise_equal(result, expected)
        with pytest.raises(NotImplementedError, match="no backward yet"):
            result.sum().backward()


@pytest.mark.parametrize("grad", [False, True])
def test_compile_fullgraph(net: Net, x: Tensor, grad: bool) -> None:
    expected = bninv.patch(net)(x)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        assert_bitwise_equal(compiled(x), expected)
        assert_bitwise_equal(compiled(x[:2]), expected[:2])


def test_export(net: Net, x: Tensor) -> None:
    expected = bninv.patch(net)(x)
    program = torch.export.export(net, (x,))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "bninv.conv2d.default" in called
    assert not any(name.startswith(("aten.conv", "aten.linear", "aten.addmm")) for name in called)
    assert_bitwise_equal(program.module()(x), expected)


def test_fx_keeps_patched_modules(net: Net, x: Tensor) -> None:
    """torchvision's feature extractors trace models; patched modules stay calls in the graph."""
    expected = bninv.patch(net)(x)
    traced = torch.fx.symbolic_trace(net)
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert called == {"stem", "norm", "act", "conv", "pool", "head"}
    assert_bitwise_equal(traced(x), expected)
    assert isinstance(traced.get_submodule("stem"), Patched)
