"""Functional calls: what becomes of each, by whichever name it is called, in every grad mode."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv import _protection
from bninv.operators import unary
from bninv.testing import assert_bitwise_equal
from tests.support.properties import GRAD_MODES

X = torch.randn(3, 12, 7, 5, generator=torch.Generator().manual_seed(0))
COMPLEX = torch.complex(X, X)
W = torch.randn(8, 12, 3, 3, generator=torch.Generator().manual_seed(1))
V = torch.rand(12, generator=torch.Generator().manual_seed(2)) + 0.5
ROWS = X.mean((2, 3))
M = torch.randn(9, 12, generator=torch.Generator().manual_seed(3))

Call = Callable[[], Tensor]

STOCK = nn.Sequential(nn.Conv2d(12, 8, 3, bias=False), nn.ReLU())
STOCK[0].weight.data = W
# Spellings of one call, and the operator of bninv's that each must become.
CALLS: dict[str, tuple[Call, list[Call]]] = {
    "mean": (
        lambda: F.mean(X, (2, 3), True),
        [
            lambda: X.mean((2, 3), keepdim=True),
            lambda: torch.mean(X, dim=(2, 3), keepdim=True),
            lambda: torch.mean(X, (2, 3), True),
            lambda: X.mean(axis=(2, 3), keepdims=True),
            lambda: torch.ops.aten.mean.dim(X, [2, 3], True),
        ],
    ),
    "matmul": (
        lambda: F.matmul(X, X.transpose(2, 3)),
        [
            lambda: X @ X.transpose(2, 3),
            lambda: torch.matmul(X, X.transpose(-1, -2)),
            lambda: torch.bmm(X.flatten(0, 1), X.flatten(0, 1).mT).view(3, 12, 7, 7),
        ],
    ),
    "var": (
        lambda: F.var(X, (2, 3), correction=0, keepdim=True),
        [
            lambda: X.var((2, 3), unbiased=False, keepdim=True),
            lambda: X.var(dim=(2, 3), correction=0, keepdim=True),
            lambda: torch.var(X, (2, 3), False, True),
            lambda: torch.var(X, axis=(2, 3), correction=0, keepdims=True),
        ],
    ),
    "std": (
        lambda: F.std(X, (2, 3), correction=0, keepdim=True),
        [
            lambda: X.std((2, 3), unbiased=False, keepdim=True),
            lambda: torch.std(X, (2, 3), False, True),
            lambda: torch.std_mean(X, (2, 3), correction=0, keepdim=True)[0],
        ],
    ),
    "var_mean": (
        lambda: torch.stack(F.var_mean(X, 1)),
        [lambda: torch.stack(torch.var_mean(X, 1)), lambda: torch.stack([X.var(1), X.mean(1)])],
    ),
    "logsumexp": (
        lambda: F.logsumexp(X, (1, 2)),
        [lambda: X.logsumexp((1, 2)), lambda: torch.special.logsumexp(X, (1, 2))],
    ),
    "cosine_similarity": (
        lambda: F.cosine_similarity(X, X.flip(1)),
        [lambda: TF.cosine_similarity(X, X.flip(1))],
    ),
    "pairwise_distance": (
        lambda: F.pairwise_distance(ROWS, ROWS[:1], 1),
        [lambda: TF.pairwise_distance(ROWS, ROWS[:1], p=1)],
    ),
    "cdist": (
        lambda: F.vector_norm(ROWS[:, None] - M, -1),
        [lambda: torch.cdist(ROWS, M), lambda: torch.cdist(ROWS[None], M[None])[0]],
    ),
    "dist": (lambda: F.vector_norm(ROWS - 1), [lambda: torch.dist(ROWS, torch.ones(()))]),
    "var of everything": (lambda: F.var(X), [lambda: X.var(), lambda: torch.var(X, True)]),
    "vector_norm": (
        lambda: F.vector_norm(X, (2, 3), True),
        [
            lambda: X.norm(p=2, dim=(2, 3), keepdim=True),
            lambda: torch.norm(X, dim=(2, 3), keepdim=True),
            lambda: torch.linalg.vector_norm(X, 2, (2, 3), True),
            lambda: torch.ops.aten.norm.ScalarOpt_dim(X, 2, [2, 3], True),
        ],
    ),
    "vector_norm of everything": (
        lambda: F.vector_norm(X),
        [lambda: X.norm(), lambda: torch.norm(X), lambda: torch.linalg.norm(X)],
    ),
    "norms of other orders": (
        lambda: torch.stack([F.vector_norm(X, 1, ord=p) for p in (0, 1, -torch.inf, 2.5)]),
        [
            lambda: torch.stack([X.norm(p, 1) for p in (0, 1, -torch.inf, 2.5)]),
            lambda: torch.stack([torch.linalg.norm(X, p, 1) for p in (0, 1, -torch.inf, 2.5)]),
        ],
    ),
    "normalize": (
        lambda: X / F.vector_norm(X, 1, True).clamp_min(1e-12),
        [lambda: TF.normalize(X)],
    ),
    "einsum": (
        lambda: F.matmul(ROWS, M.t()),
        [lambda: torch.einsum("nc,kc->nk", ROWS, M)],
    ),
    "sqrt": (lambda: F.sqrt(X), [lambda: X.sqrt(), lambda: torch.sqrt(X)]),
    "rsqrt": (lambda: F.rsqrt(X), [lambda: X.rsqrt(), lambda: X.clone().rsqrt_()]),
    "mean of everything": (lambda: F.mean(X), [lambda: X.mean(), lambda: torch.mean(X)]),
    "sum": (lambda: F.sum(X, 1), [lambda: X.sum(1), lambda: torch.sum(X, dim=1)]),
    "softmax": (
        lambda: F.softmax(X, 1),
        [
            lambda: TF.softmax(X, dim=1),
            lambda: torch.softmax(X, 1),
            lambda: X.softmax(dim=1),
            lambda: torch.ops.aten._softmax.default(X, 1, False),
        ],
    ),
    "softmax, widened": (
        lambda: F.softmax(X.half(), 1, torch.float32),
        [
            lambda: TF.softmax(X.half(), 1, dtype=torch.float32),
            lambda: X.half().softmax(1, torch.float32),
        ],
    ),
    "log_softmax": (
        lambda: F.log_softmax(X, 1),
        [
            lambda: TF.log_softmax(X, dim=1),
            lambda: torch.log_softmax(X, 1),
            lambda: X.log_softmax(dim=1),
            lambda: torch.special.log_softmax(X, 1),
            lambda: torch.ops.aten._log_softmax.default(X, 1, False),
        ],
    ),
    "softmin": (lambda: F.softmax(-X, 1), [lambda: TF.softmin(X, 1)]),
    "sum, widened": (
        lambda: F.sum(X.half(), 1, dtype=torch.float32),
        [
            lambda: X.half().sum(1, dtype=torch.float32),
            lambda: torch.sum(X.half(), dim=1, dtype=torch.float32, out=None),
        ],
    ),
    "mv": (
        lambda: F.linear(M, ROWS[:1]).squeeze(1),
        [lambda: torch.mv(M, ROWS[0]), lambda: M.mv(ROWS[0]), lambda: M @ ROWS[0]],
    ),
    "addmv": (
        lambda: F.linear(ROWS[0], M, torch.ones(9)),
        [lambda: torch.addmv(torch.ones(9), M, ROWS[0])],
    ),
    "dot": (
        lambda: F.matmul(V, ROWS[0]),
        [
            lambda: torch.dot(V, ROWS[0]),
            lambda: torch.vdot(V, ROWS[0]),
            lambda: torch.inner(V, ROWS[0]),
        ],
    ),
    "conv2d": (
        lambda: F.conv2d(X, W, padding=1),
        [
            lambda: TF.conv2d(X, W, padding=1),
            lambda: torch.conv2d(X, W, padding=1),
            lambda: torch.convolution(X, W, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        ],
    ),
    "conv1d": (
        lambda: F.conv1d(X[..., 0], W[..., 0], stride=2),
        [lambda: TF.conv1d(X[..., 0], W[..., 0], stride=2)],
    ),
    "linear": (
        lambda: F.linear(ROWS, M, torch.ones(9)),
        [
            lambda: TF.linear(ROWS, M, torch.ones(9)),
            lambda: torch.addmm(torch.ones(9), ROWS, M.t()),
            lambda: TF.linear(ROWS, M, torch.ones(1)),
            lambda: TF.linear(ROWS, M, torch.tensor(1.0)),
        ],
    ),
    "linear to one feature without a dimension": (
        lambda: F.linear(ROWS, M[:1], torch.ones(1)).squeeze(-1),
        [
            lambda: TF.linear(ROWS, M[0], torch.tensor(1.0)),
            lambda: TF.linear(ROWS, weight=M[0], bias=torch.tensor(1.0)),
            lambda: TF.linear(ROWS, M[0]) + 1,
        ],
    ),
    "batch_norm": (
        lambda: F.batch_norm(X, V, V, V, -V),
        [
            lambda: TF.batch_norm(X, V, V, V, -V),
            lambda: torch.batch_norm(X, V, -V, V, V, False, 0.1, 1e-5, False),
        ],
    ),
    "batch_norm of weights": (
        lambda: F.batch_norm(W.reshape(1, 8, -1), None, None, training=True, eps=1e-6),
        [lambda: TF.batch_norm(W.reshape(1, 8, -1), None, None, training=True, eps=1e-6)],
    ),
    "layer_norm": (
        lambda: F.layer_norm(ROWS, (12,), V),
        [lambda: TF.layer_norm(ROWS, (12,), V), lambda: torch.layer_norm(ROWS, (12,), V)],
    ),
    "group_norm": (
        lambda: F.group_norm(X, 3, V, V),
        [lambda: TF.group_norm(X, 3, V, V), lambda: torch.group_norm(X, 3, V, V)],
    ),
    "instance_norm": (lambda: F.instance_norm(X), [lambda: TF.instance_norm(X)]),
    "avg_pool2d": (lambda: F.avg_pool2d(X, 3, 2, 1), [lambda: TF.avg_pool2d(X, 3, 2, 1)]),
    "max_pool2d": (
        lambda: F.max_pool2d(X, 3, 2, 1),
        [lambda: TF.max_pool2d(X, 3, 2, 1), lambda: torch.max_pool2d(X, 3, 2, 1)],
    ),
    "adaptive_avg_pool2d": (
        lambda: F.adaptive_avg_pool2d(X, (2, 3)),
        [lambda: TF.adaptive_avg_pool2d(X, (2, 3))],
    ),
    "adaptive_max_pool2d": (
        lambda: F.adaptive_max_pool2d(X, 2),
        [lambda: TF.adaptive_max_pool2d(X, 2)],
    ),
    "relu": (lambda: F.relu(X), [lambda: TF.relu(X), lambda: torch.relu(X), lambda: X.relu()]),
    "relu in place": (
        lambda: F.relu(X),
        [lambda: TF.relu(X.clone(), inplace=True), lambda: X.clone().relu_()],
    ),
    "sigmoid": (
        lambda: F.sigmoid(X),
        [lambda: X.sigmoid(), lambda: torch.sigmoid(X), lambda: TF.sigmoid(X)],
    ),
    "sigmoid in place": (lambda: F.sigmoid(X), [lambda: X.clone().sigmoid_()]),
    "silu": (lambda: F.silu(X), [lambda: TF.silu(X), lambda: TF.silu(X.clone(), inplace=True)]),
    "gelu": (lambda: F.gelu(X, "tanh"), [lambda: TF.gelu(X, approximate="tanh")]),
    "tanh": (lambda: F.tanh(X), [lambda: X.tanh(), lambda: torch.tanh(X), lambda: TF.tanh(X)]),
    "hardswish": (lambda: F.hardswish(X), [lambda: TF.hardswish(X)]),
    "hardsigmoid": (lambda: F.hardsigmoid(X), [lambda: TF.hardsigmoid(X)]),
    **{
        f"{op.name} of torch.nn.functional": (
            lambda name=op.name: getattr(F, name)(X),
            [lambda name=op.name: getattr(TF, name)(X)],
        )
        for op in unary.OPERATORS
        if hasattr(TF, op.name)
    },
    "leaky_relu": (lambda: F.leaky_relu(X, 0.3), [lambda: TF.leaky_relu(X, 0.3)]),
    "stock modules": (
        lambda: F.relu(F.conv2d(X, W)),
        [lambda: STOCK(X)],
    ),
}


class _Operators(torch.utils._python_dispatch.TorchDispatchMode):
    """The operators that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))

    def own(self) -> set[str]:
        """Those of bninv's, in place or not."""
        return {name.rstrip("_") for name in self.names if name.startswith("bninv.")}


@pytest.mark.parametrize("grad_mode", GRAD_MODES)
@pytest.mark.parametrize("name", CALLS)
def test_call_becomes_the_operator(name: str, grad_mode: str) -> None:
    expected, spellings = CALLS[name]
    for number, spelling in enumerate(spellings):
        with GRAD_MODES[grad_mode](), _Operators() as ran:
            want = expected()
            own = ran.own()
            ran.names.clear()
            with bninv.invariant(strict=True) as scope:
                got = spelling()
        assert_bitwise_equal(got.detach(), want.detach(), f"{name}, spelling {number}")
        assert own and own <= ran.own(), f"spelling {number} ran {ran.names}"
        assert scope.uncovered == []


EXACT: dict[str, Call] = {
    "arithmetic": lambda: (X + X * 2 - 1) / 2,
    "in place": lambda: X.clone().add_(X).mul_(0.5),
    "views": lambda: X.permute(0, 2, 3, 1).reshape(3, -1)[:, 1:].unsqueeze(1).expand(3, 2, -1),
    "copies": lambda: torch.cat([X, X.flip(1)], 1).contiguous(memory_format=torch.channels_last),
    "split": lambda: torch.stack(X.split(4, 1)[:2] + X.chunk(3, 1)[:1]),
    "padding": lambda: TF.pad(X, (1, 2, 0, 1), mode="reflect"),
    "nearest": lambda: TF.interpolate(X, scale_factor=2),
    "dropout": lambda: TF.dropout(X, 0.5, training=False),
    "clamp": lambda: X.clamp(0, 1),
    "squares": lambda: X**2 + X.pow(2.0) + X.square() + torch.pow(X, 2),
    "squares in place": lambda: X.clone().pow_(2) + X.clone().square_() + X.clone().__ipow__(2),
    "from half precision to the other": lambda: X.half().bfloat16() + X.bfloat16().half(),
    "questions": lambda: X.new_zeros(X.shape[0], X.size(1), X.dim(), dtype=X.dtype),
    "integers": lambda: torch.arange(7).sum() + (X > 0).sum(),
    "largest": lambda: X.max(dim=1).values,
}


@pytest.mark.parametrize("grad_mode", GRAD_MODES)
@pytest.mark.parametrize("name", EXACT)
def test_exact_calls_stay_what_they_are(name: str, grad_mode: str) -> None:
    with GRAD_MODES[grad_mode]():
        expected = EXACT[name]()
        for strict in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with bninv.invariant(strict=strict) as scope:
                    assert_bitwise_equal(EXACT[name](), expected, name)
            assert scope.uncovered == []


UNCOVERED: dict[str, tuple[Call, str]] = {
    "composite": (
        lambda: TF.bilinear(ROWS, ROWS, M[None, :, :].expand(2, 9, 12)[:, :1].expand(2, 12, 12)),
        "aten::",
    ),
    "a power into a narrower type": (lambda: X.half().pow_(X.float()), "aten::pow_"),
    "renorm": (lambda: X.renorm(2, 0, 1.0), "aten::renorm"),
    "a sum into a narrower type": (lambda: X.half().addcmul_(X, X), "aten::addcmul_"),
    "digamma": (lambda: X.digamma(), "aten::digamma"),
    "most frequent": (lambda: X.mode(1).values, "aten::mode"),
    "training": (lambda: TF.batch_norm(X, None, None, training=True), "aten::"),
    "xlogy": (lambda: torch.xlogy(X, X.abs()), "aten::xlogy"),
    "dtype": (lambda: torch.sigmoid(COMPLEX), "aten::sigmoid"),
    "out": (lambda: torch.sigmoid(X, out=torch.empty_like(X)), "aten::sigmoid"),
}


@pytest.mark.parametrize("grad_mode", ["no_grad", "inference_mode"])
@pytest.mark.parametrize("name", UNCOVERED)
def test_a_call_without_a_row_is_warned_of_once_and_listed(name: str, grad_mode: str) -> None:
    call, operator = UNCOVERED[name]
    with GRAD_MODES[grad_mode](), bninv.invariant() as scope:
        with pytest.warns(bninv.NotInvariantWarning, match=operator) as record:
            result = call()
        assert len({str(w.message) for w in record}) == len(record)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    assert scope.uncovered[0].operator.startswith(operator)
    assert scope.uncovered[0].count >= 2
    assert __file__ in scope.uncovered[0].first
    with GRAD_MODES[grad_mode]():
        assert_bitwise_equal(result, call(), "an uncovered call is the stock one")


@pytest.mark.parametrize("name", UNCOVERED)
def test_strict_raises(name: str) -> None:
    call, operator = UNCOVERED[name]
    scope = bninv.invariant(strict=True)
    with torch.no_grad(), pytest.raises(bninv.NotInvariantError, match=operator), scope:
        call()
    assert torch._C._len_torch_function_stack() == 0
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


@torch.jit.script
def _scripted(x: Tensor) -> Tensor:
    return x.i0()


def test_strict_sees_what_runs_outside_python() -> None:
    scope = bninv.invariant(strict=True)
    # TorchScript tells where, and loses what.
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"x\.i0\(\)"), scope:
        _scripted(X)


def test_scope_ends_with_an_exception_and_nests() -> None:
    def fail() -> None:
        with bninv.invariant(), bninv.invariant():
            assert _protection.active() is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _protection.active() is None
    scope = bninv.invariant()
    with scope, scope, torch.no_grad():
        assert_bitwise_equal(X.mean(1), F.mean(X, 1))


def test_as_a_decorator() -> None:
    @bninv.invariant()
    def pooled(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    with torch.no_grad():
        for _ in range(2):
            assert_bitwise_equal(pooled(X), F.mean(X, (2, 3)))
    assert _protection.active() is None


def test_other_threads_are_not_touched() -> None:
    seen: list[bool] = []
    with bninv.invariant():
        thread = threading.Thread(target=lambda: seen.append(_protection.active() is None))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_scope_shared_by_threads() -> None:
    scope = bninv.invariant()
    expected = F.mean(X, (2, 3))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(200):
                with scope, torch.no_grad():
                    assert_bitwise_equal(X.mean((2, 3)), expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_gradients_of_exact_calls_are_stock() -> None:
    x = X.clone().requires_grad_()
    with bninv.invariant():
        y = (x * 2 + 1).permute(0, 2, 3, 1)
    y.sum().backward()
    assert x.grad is not None and bool((x.grad == 2).all())


def test_a_covered_call_has_no_backward() -> None:
    x = X.clone().requires_grad_()
    with bninv.invariant():
        y = x.mean((2, 3))
    with pytest.raises(NotImplementedError, match="no backward yet"):
        y.sum().backward()


def test_maximum_of_special_values() -> None:
    """R0 at every position: NaN wins, +0 is greater than -0."""
    nan = float("nan")
    a = torch.tensor([0.0, -0.0, -0.0, nan, 1.0, -1.0]).repeat(11)
    b = torch.tensor([-0.0, 0.0, -0.0, 1.0, nan, -2.0]).repeat(11)
    expected = torch.tensor([0.0, 0.0, -0.0, nan, nan, -1.0]).repeat(11)
    with torch.no_grad(), bninv.invariant(strict=True):
        assert_bitwise_equal(torch.maximum(a, b), expected)
        assert_bitwise_equal(torch.maximum(b, a), expected)


def test_addcmul_rounds_twice() -> None:
    """By itself in every step, but in half precision only once in the end."""
    with torch.no_grad(), bninv.invariant(strict=True):
        assert_bitwise_equal(torch.addcmul(X, X, X + 1), X + X * (X + 1))
        for dtype in (torch.float16, torch.bfloat16):
            half = X.to(dtype)
            wide = half.float()
            assert_bitwise_equal(torch.addcmul(half, half, half), (wide + wide * wide).to(dtype))


ROUNDED_ONE_BY_ONE: dict[str, tuple[Call, Call]] = {
    "addcmul": (
        lambda: torch.addcmul(X, X, X + 1, value=0.3),
        lambda: X + (X * 0.3) * (X + 1),
    ),
    "addcdiv": (
        lambda: X.clone().addcdiv_(X, X + 9, value=-2),
        lambda: X + (X * -2) / (X + 9),
    ),
    "lerp": (lambda: torch.lerp(X, X.flip(0), 0.3), lambda: X + 0.3 * (X.flip(0) - X)),
    "lerp from the other end": (
        lambda: X.lerp(X.flip(0), torch.tensor(0.7)),
        lambda: X.flip(0) - (X.flip(0) - X) * (1 - torch.tensor(0.7)),
    ),
}


@pytest.mark.parametrize("name", ROUNDED_ONE_BY_ONE)
def test_sums_of_products_round_each_operation(name: str) -> None:
    call, expected = ROUNDED_ONE_BY_ONE[name]
    with torch.no_grad(), bninv.invariant(strict=True):
        assert_bitwise_equal(call(), expected(), name)
    torch.testing.assert_close(call(), expected())
