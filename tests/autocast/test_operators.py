"""Under torch.autocast each operator and module casts as its stock namesake."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv._memory_format import is_panel
from bninv.operators import binary
from tests.support import reference_dtypes
from tests.support.calls import CALLS, ROIS, STRICT
from tests.support.properties import TOLERANCES, assert_bits, at_each_level, normal
from tests.support.stock_autocast import autocast

autocast_dtypes = pytest.mark.parametrize("low", reference_dtypes.NARROW, ids=str)


# Of two dtypes stock makes one; bninv's own functions refuse them, and its rows for stock's do not.
PROMOTING = {op.name for op in binary.OPERATORS}


def stock_function(name: str) -> Callable[..., Tensor]:
    if name == "trunc_divide":
        return partial(torch.div, rounding_mode="trunc")
    if name in ROIS:
        return getattr(torchvision.ops, name)
    if name == "deform_conv2d":
        return torchvision.ops.deform_conv2d
    return getattr(torch.nn.functional, name, None) or getattr(torch, name)


def dtype_or_error(function: Callable[..., Tensor], arguments: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stock says which of its kernels it took
            return function(**arguments).dtype
    except (RuntimeError, ValueError, NotImplementedError):
        return "an error"


def cast(arguments: dict[str, Any], dtype: torch.dtype, names: set[str] | None) -> dict[str, Any]:
    """The tensors of these names, or all, in another dtype."""
    return {
        k: v.to(dtype) if isinstance(v, Tensor) and (names is None or k in names) else v
        for k, v in arguments.items()
    }


@autocast_dtypes
@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("whole", [True, False], ids=["all tensors", "input alone"])
@pytest.mark.parametrize("name", CALLS)
def test_result_dtype_is_stocks(
    name: str, whole: bool, dtype: torch.dtype, low: torch.dtype, device_type: str
) -> None:
    if dtype == torch.float64 and name == "rms_norm" and not whole:
        pytest.skip("stock falls back to separate operations, with a warning; bninv refuses")
    if name in PROMOTING and not whole:
        pytest.skip("stock promotes")
    # A real one refuses tensors of several dtypes; a fake one does not look.
    unchecked = device_type == "cuda" and name in STRICT and not whole
    if dtype == torch.float64 and unchecked:
        pytest.skip("a fake product takes it")
    function, arguments = CALLS[name]
    if device_type == "cuda":
        arguments = {
            k: torch.empty(v.shape, device="cuda") if isinstance(v, Tensor) else v
            for k, v in arguments.items()
        }
    arguments = cast(arguments, dtype, None if whole else {"input"})
    if isinstance(arguments.get("normalized_shape"), int):
        arguments["normalized_shape"] = (arguments["normalized_shape"],)  # stock takes no integer
    # The fake layer_norm of newer versions refuses several dtypes, which bninv's does not.
    stricter = device_type == "cuda" and name == "layer_norm" and not whole
    # Stock's average in 3-d has no kernel for half types on a CPU.
    stricter |= device_type == "cpu" and name == "avg_pool3d" and dtype.itemsize == 2
    # Nor have torchvision's operators one for bfloat16.
    stricter |= device_type == "cpu" and name in ROIS and dtype == torch.bfloat16
    stricter |= device_type == "cpu" and name == "deform_conv2d" and dtype == torch.bfloat16
    with autocast(device_type, low):
        stock = dtype_or_error(stock_function(name), arguments)
        if not (stricter and stock == "an error"):
            assert dtype_or_error(function, arguments) == stock
        if unchecked:
            return
        with torch.autocast(device_type, enabled=False):
            stock = dtype_or_error(stock_function(name), arguments)
            if not (stricter and stock == "an error"):
                assert dtype_or_error(function, arguments) == stock


@autocast_dtypes
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "linear"])
def test_products_are_those_of_cast_tensors(name: str, low: torch.dtype) -> None:
    function, arguments = CALLS[name]
    expected = function(**cast(arguments, low, None))
    with torch.autocast("cpu", dtype=low):
        for level, result in at_each_level(lambda: function(**arguments)):
            assert_bits(result, expected, level)


def test_cache_of_casts_does_not_keep_old_weights() -> None:
    """Stock keeps cast weights for a whole autocast region, and so may use old ones."""
    weight = normal("w", 5, 7).requires_grad_()
    x = normal("x", 3, 7)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        F.linear(x, weight)
        weight.mul_(2)
        result = F.linear(x, weight)
    assert_bits(result, F.linear(x.bfloat16(), weight.detach().bfloat16()))


# ---- Models --------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolutions, norms, activations, a residual, pooling of both kinds, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.gate = nn.SiLU()
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.pool(x + self.gate(self.depthwise(x)))
        return self.head(self.average(x).flatten(1))


def nets() -> tuple[Net, Net]:
    """A stock one, and a patched one of the same parameters."""
    torch.manual_seed(0)
    stock, patched = Net().eval(), Net().eval()
    stock.norm.running_mean.normal_()
    patched.load_state_dict(stock.state_dict())
    return stock, bninv.patch(patched, strict=True)


def dtypes_of_modules(net: nn.Module, x: Tensor) -> dict[str, torch.dtype]:
    dtypes: dict[str, torch.dtype] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, result: dtypes.__setitem__(name, result.dtype)

    hooks = [
        module.register_forward_hook(note(name)) for name, module in net.named_modules() if name
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    return dtypes


@autocast_dtypes
def test_model(low: torch.dtype) -> None:
    stock, patched = nets()
    x = normal("x", 5, 3, 12, 10)
    with torch.no_grad(), torch.autocast("cpu", dtype=low):
        dtypes = dtypes_of_modules(patched, x)
        assert dtypes == dtypes_of_modules(stock, x)
        assert dtypes["stem"] == dtypes["head"] == low
        whole, expected = patched(x), stock(x)
        torch.testing.assert_close(whole, expected, rtol=TOLERANCES[low], atol=TOLERANCES[low])
        for i in range(len(x)):
            assert_bits(patched(x[i : i + 1]), whole[i : i + 1], f"sample {i} alone")
        for level, result in at_each_level(lambda: patched(x.flip(0)).flip(0)):
            assert_bits(result, whole, level)
    assert is_panel(patched.stem.weight.to(low)), "a cast weight would be packed at each call"


@autocast_dtypes
def test_compiled_model(low: torch.dtype) -> None:
    _, patched = nets()
    x = normal("x", 3, 3, 12, 10)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=low):
            features = patched.stem(x)
            with torch.autocast("cpu", enabled=False):
                plain = patched.stem(x)
            return F.sum(features, (2, 3)), plain

    outside = torch.compile(patched, backend="aot_eager", fullgraph=True)
    inside = torch.compile(run, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for result, expected in zip(inside(x), run(x), strict=True):
            assert_bits(result, expected)
        with torch.autocast("cpu", dtype=low):
            assert_bits(outside(x), patched(x))
        result = outside(x)
        assert result.dtype == torch.float32
        assert_bits(result, patched(x), "compiled anew outside of autocast")
    torch._dynamo.reset()


def test_nested() -> None:
    x, weight = normal("x", 2, 7), normal("w", 5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = F.linear(x, weight)
        with torch.autocast("cpu", enabled=False):
            assert_bits(F.linear(x, weight), F.linear(x.clone(), weight))
            assert F.linear(x, weight).dtype == torch.float32
            with pytest.raises(RuntimeError, match="`weight` has dtype torch.float32; beside"):
                F.linear(low[:, :1].expand(2, 7), weight)
            with torch.autocast("cpu", dtype=torch.float16):
                assert F.linear(x, weight).dtype == torch.float16
        assert_bits(F.linear(x, weight), low)
    with torch.autocast("cpu", enabled=False):
        assert F.linear(x, weight).dtype == torch.float32
    with torch.autocast("cuda", dtype=torch.float16, enabled=torch.cuda.is_available()):
        assert F.linear(x, weight).dtype == torch.float32, "another device's autocast"


def test_gradients_reach_the_cast() -> None:
    """The cast is part of the graph; backward says what is missing, as without autocast."""
    x, weight = normal("x", 2, 7), normal("w", 5, 7).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = F.linear(x, weight)
    assert result.requires_grad
    with pytest.raises(NotImplementedError, match="linear has no backward yet"):
        result.sum().backward()
