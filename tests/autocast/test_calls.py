"""Plain calls under autocast: covered, and of the dtype that stock PyTorch gives them.

On a GPU with fake tensors, which autocast casts as it does real ones. What is computed there is
seen on the CPU, under the lists of CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor

import bninv
import bninv.functional as F
from bninv import _autocast
from bninv._autocast_lists import LISTS
from bninv.testing import assert_bitwise_equal
from tests.support.properties import GRAD_MODES, normal
from tests.support.stock_autocast import autocast

HALVES = [torch.float16, torch.bfloat16]
aten = torch.ops.aten


def arguments(device: str, dtype: torch.dtype, beside: torch.dtype) -> SimpleNamespace:
    """Inputs of one dtype, and what stands beside them of another."""

    def made(dtype: torch.dtype, *shape: int) -> Tensor:
        return normal("autocast", *shape).abs().add(0.1).to(dtype).to(device)

    return SimpleNamespace(
        x=made(dtype, 2, 6, 5, 4),
        rows=made(dtype, 3, 6),
        vector=made(dtype, 6),
        kernel=made(beside, 4, 6, 3, 3),
        matrix=made(beside, 6, 6),
        scale=made(beside, 6),
        other=made(beside, 3, 6),
        row=made(beside, 6),
    )


# Functions that autocast casts for on some device, and neighbours that it passes by.
CALLS: dict[str, Callable[[Any], Tensor]] = {
    "x ** 2": lambda t: t.x**2,
    "torch.pow": lambda t: torch.pow(t.x, 2.0),
    "x.pow_": lambda t: t.x.clone().pow_(2),
    "x **= 2": lambda t: t.x.clone().__ipow__(2),
    "x.square": lambda t: t.x.square(),
    "x.square_": lambda t: t.x.clone().square_(),
    "x.rsqrt": lambda t: t.x.rsqrt(),
    "x.rsqrt_": lambda t: t.x.clone().rsqrt_(),
    "x.sqrt": lambda t: t.x.sqrt(),
    "x.reciprocal": lambda t: t.x.reciprocal(),
    "1 / x": lambda t: 1 / t.x,
    "x / 3": lambda t: t.x / 3,
    "x.sum": lambda t: t.x.sum(1),
    "x.sum of everything": lambda t: t.x.sum(),
    "x.sum, float32": lambda t: t.x.sum((2, 3), dtype=torch.float32),
    "x.mean": lambda t: t.x.mean((2, 3)),
    "x.mean, float32": lambda t: t.x.mean((2, 3), dtype=torch.float32),
    "x.var": lambda t: t.x.var((2, 3)),
    "x.softmax": lambda t: t.x.softmax(1),
    "F.softmax": lambda t: TF.softmax(t.x, dim=1),
    "F.softmax, float32": lambda t: TF.softmax(t.x, 1, dtype=torch.float32),
    "F.softmin": lambda t: TF.softmin(t.x, dim=1),
    "torch.special.softmax": lambda t: torch.special.softmax(t.x, 1),
    "aten._softmax": lambda t: aten._softmax(t.x, 1, False),
    "x.log_softmax": lambda t: t.x.log_softmax(1),
    "torch.log_softmax": lambda t: torch.log_softmax(t.x, dim=1),
    "F.log_softmax": lambda t: TF.log_softmax(t.x, dim=1),
    "F.log_softmax, float32": lambda t: TF.log_softmax(t.x, 1, dtype=torch.float32),
    "torch.special.log_softmax": lambda t: torch.special.log_softmax(t.x, 1),
    "aten._log_softmax": lambda t: aten._log_softmax(t.x, 1, False),
    "torch.linalg.vector_norm": lambda t: torch.linalg.vector_norm(t.x, dim=(2, 3)),
    "torch.linalg.vector_norm, float32": lambda t: torch.linalg.vector_norm(
        t.x, dtype=torch.float32
    ),
    "torch.linalg.norm": lambda t: torch.linalg.norm(t.x, dim=1),
    "x.norm": lambda t: t.x.norm(),
    "x.norm along a dimension": lambda t: t.x.norm(2, 1, True),
    "torch.norm, float32": lambda t: torch.norm(t.x, dim=1, dtype=torch.float32),
    "aten.norm": lambda t: aten.norm.ScalarOpt_dim(t.x, 2, [1], True),
    "F.normalize": lambda t: TF.normalize(t.x),
    "F.layer_norm": lambda t: TF.layer_norm(t.rows, (6,), t.scale, t.scale),
    "F.group_norm": lambda t: TF.group_norm(t.x, 3, t.scale, t.scale),
    "F.batch_norm": lambda t: TF.batch_norm(t.x, t.scale, t.scale, t.scale, t.scale),
    "F.instance_norm": lambda t: TF.instance_norm(t.x),
    "F.rms_norm": lambda t: TF.rms_norm(t.rows, (6,)),
    "F.conv2d": lambda t: TF.conv2d(t.x, t.kernel),
    "F.conv2d, same": lambda t: TF.conv2d(t.x, t.kernel, padding="same"),
    "F.conv1d": lambda t: TF.conv1d(t.x[..., 0], t.kernel[..., 0]),
    "torch.convolution": lambda t: torch.convolution(
        t.x, t.kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    ),
    "F.linear": lambda t: TF.linear(t.rows, t.matrix, t.scale),
    "x @ y": lambda t: t.rows @ t.matrix,
    "torch.mm": lambda t: torch.mm(t.rows, t.matrix),
    "torch.mm by name": lambda t: torch.mm(input=t.rows, mat2=t.matrix),
    "torch.bmm": lambda t: torch.bmm(t.rows[None], t.matrix[None]),
    "torch.addmm": lambda t: torch.addmm(t.scale, t.rows, t.matrix),
    "torch.mv": lambda t: torch.mv(t.matrix, t.vector),
    "torch.addmv": lambda t: torch.addmv(t.row, t.matrix, t.vector),
    "torch.dot": lambda t: torch.dot(t.vector, t.row),
    "torch.vdot": lambda t: torch.vdot(t.vector, t.row),
    "torch.inner": lambda t: torch.inner(t.rows, t.other),
    "torch.einsum": lambda t: torch.einsum("nc,kc->nk", t.rows, t.other),
    "torch.tensordot": lambda t: torch.tensordot(t.rows, t.matrix, dims=1),
    "torch.linalg.matmul": lambda t: torch.linalg.matmul(t.rows, t.matrix),
    "torch.linalg.vecdot": lambda t: torch.linalg.vecdot(t.rows, t.other),
    "torch.linalg.multi_dot": lambda t: torch.linalg.multi_dot([t.rows, t.matrix, t.matrix]),
    "torch.addcmul": lambda t: torch.addcmul(t.other, t.rows, t.rows),
    "torch.maximum": lambda t: torch.maximum(t.rows, t.rows),
    "F.sigmoid": lambda t: TF.sigmoid(t.x),
    "F.gelu": lambda t: TF.gelu(t.x),
    "F.silu": lambda t: TF.silu(t.x),
    "F.adaptive_avg_pool2d": lambda t: TF.adaptive_avg_pool2d(t.x, 1),
    "F.avg_pool2d": lambda t: TF.avg_pool2d(t.x, 2),
    "F.prelu": lambda t: TF.prelu(t.x, t.scale),
    "torch.cat": lambda t: torch.cat([t.rows, t.other]),
    "F.interpolate": lambda t: TF.interpolate(t.x, scale_factor=2),
    "F.pad": lambda t: TF.pad(t.x, (1, 1, 1, 1), "reflect"),
}


def dtype_or_error(call: Callable[[Any], Tensor], given: Any) -> Any:
    try:
        return call(given).dtype
    except bninv.NotInvariantError:
        raise
    except (RuntimeError, ValueError):
        return RuntimeError


# Of an input, and of what stands beside it.
BESIDE = [(torch.float32, torch.float32)]
BESIDE += [(dtype, beside) for dtype in HALVES for beside in (dtype, torch.float32)]


# Every second of them, in turns, so that all are met by one grad mode or by two; or each.
@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.filterwarnings("ignore:Using padding='same'", "ignore:Mismatch dtype between input")
@pytest.mark.parametrize("grad_mode", GRAD_MODES)
@pytest.mark.parametrize("name", CALLS)
def test_dtype_is_stocks_and_the_call_is_covered(
    name: str, grad_mode: str, device_type: str, step: int
) -> None:
    if (name, grad_mode, device_type) == ("F.interpolate", "inference_mode", "cuda"):
        pytest.skip("stays stock, and the fake tensor gets the operator whole, without autocast")
    call = CALLS[name]
    first = list(GRAD_MODES).index(grad_mode)
    for low in HALVES:
        for dtype, beside in BESIDE[(first + HALVES.index(low)) % step :: step]:
            given = arguments(device_type, dtype, beside)
            # Not under inference_mode, in which no mode, fake tensors' own included, sees autocast.
            with torch.no_grad(), autocast(device_type, low):
                expected = dtype_or_error(call, given)
            if expected is RuntimeError:
                continue
            scope = bninv.invariant(strict=True)
            with GRAD_MODES[grad_mode](), autocast(device_type, low), scope:
                result = dtype_or_error(call, given)
            assert result == expected, f"{dtype} beside {beside} under {low}"


@pytest.mark.parametrize("grad_mode", GRAD_MODES)
@pytest.mark.parametrize(
    "name", ["F.softmin", "torch.linalg.norm", "torch.inner", "torch.linalg.vecdot", "torch.einsum"]
)
def test_calls_without_a_row_of_their_own(name: str, grad_mode: str, device_type: str) -> None:
    """What they are made of is cast where autocast casts it, strict or not."""
    given = arguments(device_type, torch.float16, torch.float32)
    for low in HALVES:
        with torch.no_grad(), autocast(device_type, low):
            expected = dtype_or_error(CALLS[name], given)
        scope = bninv.invariant()
        with GRAD_MODES[grad_mode](), autocast(device_type, low), scope:
            assert dtype_or_error(CALLS[name], given) == expected
        assert scope.uncovered == []


@pytest.mark.parametrize("name", CALLS)
def test_dtype_is_stocks_without_autocast(name: str, device_type: str) -> None:
    for dtype in (torch.float32, *HALVES):
        given = arguments(device_type, dtype, dtype)
        with torch.no_grad():
            expected = CALLS[name](given).dtype
            with bninv.invariant(strict=True):
                assert CALLS[name](given).dtype == expected


# bninv.functional's that are made of several operators, or of one of another name.
OF_SEVERAL: dict[str, tuple[Callable[[Any], Tensor], Callable[[Any], Tensor]]] = {
    "matmul": (lambda t: F.matmul(t.rows, t.matrix), lambda t: t.rows @ t.matrix),
    "matmul of batches": (
        lambda t: F.matmul(t.rows[None], t.matrix[None]),
        lambda t: t.rows[None] @ t.matrix[None],
    ),
    "var": (lambda t: F.var(t.x, 1), lambda t: t.x.var(1)),
    "vector_norm": (lambda t: F.vector_norm(t.x), lambda t: torch.linalg.vector_norm(t.x)),
    "sum, float16": (
        lambda t: F.sum(t.x, dtype=torch.float16),
        lambda t: t.x.sum(dtype=torch.float16),
    ),
    "softmax, float16": (
        lambda t: F.softmax(t.x, 1, torch.float16),
        lambda t: TF.softmax(t.x, 1, dtype=torch.float16),
    ),
    "vector_norm, float16": (
        lambda t: F.vector_norm(t.x, 1, dtype=torch.float16),
        lambda t: torch.linalg.vector_norm(t.x, dim=1, dtype=torch.float16),
    ),
    "conv2d_fused": (
        lambda t: F.conv2d_fused(
            t.x, t.kernel, running_mean=t.scale[:4], running_var=t.scale[:4], activation="relu"
        ),
        lambda t: TF.batch_norm(TF.conv2d(t.x, t.kernel), t.scale[:4], t.scale[:4]).relu(),
    ),
    "linear_fused": (
        lambda t: F.linear_fused(t.rows, t.matrix, activation="relu"),
        lambda t: TF.linear(t.rows, t.matrix).relu(),
    ),
}


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_functions_of_several_operators_have_stocks_dtype(name: str, device_type: str) -> None:
    own, stock = OF_SEVERAL[name]
    for low in HALVES:
        for dtype in HALVES:
            given = arguments(device_type, dtype, torch.float32)
            with torch.no_grad(), autocast(device_type, low):
                assert dtype_or_error(own, given) == dtype_or_error(stock, given), (low, dtype)


def test_promotion_of_the_other_half_is_stocks_error(device_type: str) -> None:
    """PyTorch's autocast to one half precision takes no tensor of the other where it promotes."""
    if device_type == "cpu":
        pytest.skip("bninv has nothing that promotes there")
    half = torch.ones(3, dtype=torch.float16, device=device_type)
    for call in (torch.dot, torch.vdot, lambda a, b: torch.addcmul(a, b, b)):
        unexpected = pytest.raises(RuntimeError, match="Unexpected floating ScalarType")
        with torch.no_grad(), autocast(device_type, torch.bfloat16), bninv.invariant(), unexpected:
            call(half, half)


# ---- What is computed under CUDA's lists ---------------------------------------------------------


@pytest.fixture
def cuda_lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Autocast on the CPU, with the lists of CUDA for what bninv computes."""
    monkeypatch.setitem(_autocast._POLICIES, "cpu", _autocast._POLICIES["cuda"])
    monkeypatch.setitem(LISTS, "cpu", LISTS["cuda"])
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        yield


def test_a_square_beyond_half_precision(cuda_lists: None) -> None:
    x = torch.full((1,), 300.0, dtype=torch.float16)
    with bninv.invariant(strict=True):
        for square in (x**2, x.pow(2), torch.pow(x, 2.0), x.square(), torch.square(x)):
            assert_bitwise_equal(square, torch.tensor([90000.0]))
        assert x.clone().pow_(2).isinf().all(), "autocast passes by what changes its input"


IN_FLOAT32 = [
    "x ** 2",
    "x.square",
    "x.rsqrt",
    "x.sum",
    "x.sum of everything",
    "x.softmax",
    "F.softmax",
    "F.log_softmax",
    "torch.linalg.vector_norm",
    "x.norm along a dimension",
    "F.normalize",
    "F.layer_norm",
    "F.group_norm",
]
IN_HALF = ["F.conv2d", "F.conv1d", "F.linear", "x @ y", "torch.mm", "torch.addmm", "torch.mv"]


@pytest.mark.parametrize("name", IN_FLOAT32 + IN_HALF)
def test_values_are_those_of_cast_tensors(name: str, cuda_lists: None) -> None:
    given, cast = (
        (torch.float16, torch.float32) if name in IN_FLOAT32 else (torch.float32, torch.float16)
    )
    narrow = arguments("cpu", given, given)
    wide = SimpleNamespace(**{key: value.to(cast) for key, value in vars(narrow).items()})
    with bninv.invariant(strict=True):
        result = CALLS[name](narrow)
        with torch.autocast("cpu", enabled=False):
            expected = CALLS[name](wide)
    assert_bitwise_equal(result, expected)


def test_a_dtype_that_the_call_names_holds(cuda_lists: None) -> None:
    x = arguments("cpu", torch.float16, torch.float16).x
    for function, *rest in ((F.sum, 1), (F.mean, 1), (F.softmax, 1), (F.log_softmax, 1)):
        for dtype in (torch.float16, torch.bfloat16):
            result = function(x, *rest, dtype=dtype)
            with torch.autocast("cpu", enabled=False):
                assert_bitwise_equal(result, function(x.to(dtype), *rest))
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert F.vector_norm(x, dtype=dtype).dtype == dtype
    with pytest.raises(ValueError, match="`dtype` is torch.bfloat16 for an `input` of"):
        F.vector_norm(x, dtype=torch.bfloat16)
    with bninv.invariant(strict=True):
        assert x.sum(dtype=torch.float16).dtype == torch.float16
        assert TF.softmax(x, 1, dtype=torch.float16).dtype == torch.float16


def test_an_operator_on_no_list_casts_nothing_inside() -> None:
    """The CPU's list has conv2d and matmul, but neither convolution nor mv."""
    t = arguments("cpu", torch.float32, torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), bninv.invariant(strict=True):
        result = CALLS["torch.convolution"](t), torch.mv(t.matrix, t.vector)
    assert_bitwise_equal(result[0], F.conv2d(t.x, t.kernel))
    assert_bitwise_equal(result[1], F.matmul(t.matrix, t.vector))


def test_a_product_of_no_matrices_has_the_dtype_of_others() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert F.matmul(torch.ones(0, 2, 3), torch.ones(0, 3, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str, cuda_lists: None) -> None:
    t = arguments("cpu", torch.float16, torch.float32)

    def run(x: Tensor, rows: Tensor, matrix: Tensor) -> tuple[Tensor, ...]:
        with bninv.invariant():
            norms = x.norm(2, 1), torch.linalg.vector_norm(x, dtype=torch.float16)
            return x**2, x.square(), TF.log_softmax(x, 1), rows @ matrix, TF.normalize(x), *norms

    compiled = torch.compile(run, backend=backend, fullgraph=True)
    expected = run(t.x, t.rows, t.matrix)
    for result, one in zip(compiled(t.x, t.rows, t.matrix), expected, strict=True):
        assert_bitwise_equal(result, one)
    assert [one.dtype for one in expected] == [
        *[torch.float32] * 3,
        torch.float16,
        *[torch.float32] * 2,
        torch.float16,
    ]
    torch._dynamo.reset()
