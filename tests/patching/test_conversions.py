"""Tools that turn a model into something else: what they cannot take is refused with the remedy."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import bninv
from bninv.operators import OPERATORS
from tests.gpu.draws import Draw
from tests.support.properties import assert_bits
from tests.support.small_models import images, small_cnn

REMEDY = r"bninv\.unpatch\(model\) gives the stock model"


class OwnCode(nn.Module):
    """Calls as well as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def models() -> list[nn.Module]:
    """A patched container, code of one's own, a patched part of a stock model, a lone layer."""
    return [
        bninv.patch(small_cnn()),
        bninv.patch(OwnCode().eval()),
        nn.Sequential(bninv.patch(nn.Conv2d(3, 8, 3).eval()), nn.Flatten()).eval(),
        bninv.patch(nn.Conv2d(3, 8, 3).eval()),
    ]


KINDS = ("container", "own code", "part", "layer")


@pytest.fixture(params=range(len(KINDS)), ids=KINDS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return models()[request.param]


# ---- TorchScript ---------------------------------------------------------------------------------


def test_script(model: nn.Module) -> None:
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(RuntimeError, match=f"torch.jit.script: .* is patched.*{REMEDY}"):
        torch.jit.script(model)
    assert before == {name: type(module) for name, module in model.named_modules()}
    stock = bninv.unpatch(model)
    x = images()
    assert_bits(torch.jit.script(stock)(x), stock(x))


# ---- ONNX ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_by_torchscript(model: nn.Module) -> None:
    with pytest.raises(RuntimeError, match=rf"bninv\.\w+ has no ONNX form.*{REMEDY}"):
        torch.onnx.export(model, (images(),), io.BytesIO(), dynamo=False)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_onnx_of_a_model_traced_before(model: nn.Module) -> None:
    traced = torch.jit.trace(model, images())
    with pytest.raises(RuntimeError, match=rf"bninv\.\w+ has no ONNX form.*{REMEDY}"):
        torch.onnx.export(traced, (images(),), io.BytesIO(), dynamo=False)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_onnx_by_export(model: nn.Module, strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exporter does; it needs a package that need not be here."""
    program = torch.export.export(model, (images(),), strict=strict)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with pytest.raises(Exception, match=rf"bninv\.\w+ has no ONNX form.*{REMEDY}"):
        torch.export.export(model, (images(),), strict=strict)
    # Exported before: the exporter runs the program on fake tensors to decompose it.
    with pytest.raises(Exception, match=rf"bninv\.\w+ has no ONNX form.*{REMEDY}"):
        program.run_decompositions({})


def test_the_onnx_exporter_itself(model: nn.Module) -> None:
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match=rf"bninv\.\w+ has no ONNX form.*{REMEDY}"):
            torch.onnx.export(model, (images(),), io.BytesIO(), dynamo=True)
        torch.onnx.export(bninv.unpatch(model), (images(),), io.BytesIO(), dynamo=True)


# ---- Quantization --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("inplace", [False, True])
def test_quantize_dynamic(model: nn.Module, inplace: bool) -> None:
    quantization = pytest.importorskip("torch.ao.quantization")
    with pytest.raises(RuntimeError, match=rf"`qconfig` of a patched \w+: .*{REMEDY}"):
        quantization.quantize_dynamic(model, inplace=inplace)
    quantization.quantize_dynamic(bninv.unpatch(model), inplace=inplace)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_prepare(model: nn.Module) -> None:
    quantization = pytest.importorskip("torch.ao.quantization")
    with pytest.raises(RuntimeError, match=rf"`qconfig` of a patched \w+: .*{REMEDY}"):
        quantization.prepare(model)


def test_a_qconfig_from_before() -> None:
    """Quantization leaves one on every module; it is no reason to refuse patching and copying."""
    model = small_cnn()
    for module in model.modules():
        module.qconfig = None  # type: ignore[assignment]
    model.conv1.qconfig = "kept"
    twin = copy.deepcopy(bninv.patch(model))
    assert twin.conv1.qconfig == "kept"
    del twin.conv1.qconfig
    assert not hasattr(twin.conv1, "qconfig")
    with pytest.raises(AttributeError):
        del twin.conv1.qconfig
    assert bninv.unpatch(model).conv1.qconfig == "kept"
    assert not hasattr(bninv.patch(small_cnn()), "qconfig")


class Quantized(Tensor):
    """As torchao's weights are: a subclass that holds other tensors, and knows linear layers."""

    values: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> Quantized:
        return Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.float32)

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: Any, context: Any, size: Any, stride: Any) -> Quantized:
        return cls(inner["values"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].values)
        raise NotImplementedError(f"Quantized: {func} is not supported")


def quantize_(model: nn.Module) -> None:
    """What torchao's does: linear layers by isinstance, and another parameter in place of one."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            values = module.weight.detach().to(torch.int8)
            module.weight = nn.Parameter(Quantized(values), requires_grad=False)


def test_torchao() -> None:
    model = bninv.patch(small_cnn())
    x = images()
    with torch.no_grad():
        expected = model(x)
        with pytest.raises(RuntimeError, match=rf"`weight` of a patched Linear.*{REMEDY}"):
            quantize_(model)
        assert_bits(model(x), expected)
    quantize_(bninv.unpatch(model))
    assert type(model.fc.weight) is Quantized


def test_a_tensor_that_came_another_way() -> None:
    """Quantized first, or put where no method of the module's sees it."""
    model = bninv.patch(small_cnn())
    weight = Quantized(model.fc.weight.detach().to(torch.int8))
    model.fc._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    with torch.no_grad(), pytest.raises(RuntimeError, match=f"`weight` is Quantized.*{REMEDY}"):
        model(images())


def test_ordinary_parameters_may_be_exchanged() -> None:
    model = bninv.patch(small_cnn())
    model.fc.weight = nn.Parameter(torch.zeros(10, 32))
    model.fc.bias = None
    with torch.no_grad():
        assert not model(images()).any()


# ---- torch.func ----------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_vmap_of_a_model(model: nn.Module, context: Callable[[], Any]) -> None:
    x = images(6).unflatten(0, (3, 2))
    with context():
        mapped = torch.func.vmap(model)(x)
        assert_bits(mapped.detach(), torch.stack([model(part) for part in x]).detach())
        mapped = torch.func.vmap(model, in_dims=1)(x)
        assert_bits(mapped.detach(), torch.stack([model(part) for part in x.unbind(1)]).detach())


def test_vmap_over_models() -> None:
    """An ensemble: weights are mapped over, and images."""
    torch.manual_seed(0)
    members = [bninv.patch(OwnCode().eval()) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(members)
    base = copy.deepcopy(members[0])

    def call(parameters: Any, buffers: Any, x: Tensor) -> Tensor:
        return torch.func.functional_call(base, (parameters, buffers), (x,))

    x = images(2)
    with torch.no_grad():
        mapped = torch.func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
        assert_bits(mapped, torch.stack([member(x) for member in members]))


@pytest.mark.parametrize("name", [n for n in OPERATORS if n != "nms"])  # results of any size
def test_vmap_of_an_operator(name: str) -> None:
    """Each tensor mapped over by itself, and all of them."""
    op = getattr(torch.ops.bninv, name).default
    args = OPERATORS[name].draw(Draw(name, torch.float32, 200))
    tensors = [index for index, arg in enumerate(args) if isinstance(arg, Tensor)]

    def other(arg: Tensor) -> Tensor:
        if "roi" not in name:
            return arg.flip(-1)
        # The first number of a region is an index.
        return torch.cat([arg[..., :1], arg[..., 1:].flip(-1)], -1)

    for chosen in (*((index,) for index in tensors), tuple(tensors)):
        twice = [
            [args[i], other(args[i])] if i in chosen else [args[i]] * 2 for i in range(len(args))
        ]
        stacked = [torch.stack(twice[i], 1) if i in chosen else args[i] for i in tensors]
        rest = {index: place for place, index in enumerate(tensors)}

        def call(*given: Tensor, rest: Any = rest) -> Tensor:
            return op(*[given[rest[i]] if i in rest else arg for i, arg in enumerate(args)])

        in_dims = tuple(1 if index in chosen else None for index in tensors)
        expected = torch.stack([op(*[pair[i] for pair in twice]) for i in range(2)])
        assert_bits(torch.func.vmap(call, in_dims)(*stacked), expected)


def test_vmap_in_place() -> None:
    x = images(3)
    expected = bninv.functional.relu(x)
    with torch.no_grad():
        torch.func.vmap(lambda part: bninv.functional.relu(part, inplace=True))(x)
    assert_bits(x, expected)


def test_derivatives_are_refused(model: nn.Module) -> None:
    """Forward mode gave tangents of zero."""
    x = images(2)
    with pytest.raises(NotImplementedError, match="gradients do not exist.*bninv.unpatch"):
        torch.func.grad(lambda x: model(x).sum())(x)
    with pytest.raises(NotImplementedError, match="gradients do not exist.*bninv.unpatch"):
        torch.func.jvp(model, (x,), (x,))
    for context in (torch.no_grad, torch.enable_grad):
        with (
            context(),
            forward_ad.dual_level(),
            pytest.raises(NotImplementedError, match="no forward-mode derivative"),
        ):
            model(forward_ad.make_dual(x, x))
    with forward_ad.dual_level():
        model(x)
