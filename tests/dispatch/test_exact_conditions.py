"""Arguments under which an operator of the table is not exact: each condition refuses its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bninv.dispatch import exact

X = torch.linspace(-2, 2, 24).view(2, 3, 4)
H = X.half()
B = X.bfloat16()
C = torch.complex(X, X)
WHOLE = torch.arange(24).view(2, 3, 4)
TWICE = torch.tensor([1, 1, 0])
NUMBER = torch.tensor(0.1)


class Refused(TorchDispatchMode):
    """The operators that the table does not call exact."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if exact.reason(func, args, kwargs or {}, result) is None:
            self.operators.append(func.overloadpacket.__name__)
        return result


INEXACT: dict[str, tuple[str, Callable[[], Any]]] = {
    "add with alpha": ("add", lambda: torch.add(X, X, alpha=2)),
    "add with alpha, in place": ("add_", lambda: X.clone().add_(X, alpha=2)),
    "sub with alpha": ("sub", lambda: torch.sub(X, X, alpha=0.5)),
    "rsub with alpha": ("rsub", lambda: torch.rsub(X, X, alpha=2)),
    "rsub of a number with alpha": ("rsub", lambda: torch.rsub(X, 1, alpha=2)),
    "half and a number": ("add", lambda: H + 0.1),
    "bfloat16 and a number": ("add", lambda: B + 1.01),
    "a number that float16 holds and bfloat16 does not": ("add", lambda: B + 257),
    "half and a number by name": ("sub", lambda: H.sub(other=0.1)),
    "half and a tensor that counts as a number": ("mul", lambda: H * NUMBER),
    "half and integers": ("mul", lambda: H * WHOLE),
    "half and one integer": ("mul", lambda: H * torch.tensor(4099)),
    "half compared with a number": ("eq", lambda: H == 0.1),
    "half through leaky_relu": ("leaky_relu", lambda: torch.ops.aten.leaky_relu(H)),
    "a complex number": ("mul", lambda: X * 1j),
    "complex tensors": ("mul", lambda: C * C),
    "a complex tensor's size": ("abs", lambda: C.abs()),
    "into a narrower tensor": ("add_", lambda: H.clone().add_(X)),
    "multiplied into a narrower tensor": ("mul_", lambda: X.clone().mul_(X.double())),
    "divided into a narrower tensor": ("div_", lambda: H.clone().div_(X)),
    "out of a narrower dtype": ("add", lambda: torch.add(X, X, out=torch.empty_like(H))),
    "division rounded down": ("div", lambda: torch.div(X, X, rounding_mode="floor")),
    "division rounded to zero": ("div", lambda: torch.div(X, 0.3, rounding_mode="trunc")),
    "division of integers": ("div", lambda: WHOLE / 3),
    "round to decimals": ("round", lambda: X.round(decimals=1)),
    "max over everything": ("max", lambda: X.max()),
    "min over everything": ("min", lambda: X.min()),
    "max of two tensors": ("maximum", lambda: torch.max(X, X)),
    "min of two tensors": ("minimum", lambda: torch.min(X, X)),
    "amax": ("amax", lambda: X.amax(1)),
    "clamp between tensors": ("clamp", lambda: X.clamp(X, X)),
    "clamp_min of tensors": ("clamp_min", lambda: torch.clamp_min(X, X)),
    "clamp at a tensor of one": ("clamp", lambda: X.clamp(min=NUMBER)),
    "accumulation": (
        "index_put",
        lambda: torch.ops.aten.index_put(X, [TWICE[:1]], X[:1], True),
    ),
    "accumulation by name": (
        "index_put_",
        lambda: X.clone().index_put_((TWICE[:1],), X[:1], accumulate=True),
    ),
    "one place twice": ("index_put", lambda: X.flatten().index_put((TWICE,), X.flatten()[:3])),
    "one place twice, of integers": (
        "index_put",
        lambda: WHOLE.flatten().index_put((TWICE,), WHOLE.flatten()[:3]),
    ),
    "one place twice, once from the end": (
        "index_put_",
        lambda: X.flatten().clone().index_put_((torch.tensor([1, -23]),), X.flatten()[:2]),
    ),
    "places in two dimensions": (
        "index_put",
        lambda: X.index_put((TWICE[:2], torch.tensor([0, 2])), X[0, :2]),
    ),
    "scatter_ that adds": (
        "scatter_",
        lambda: X.clone().scatter_(2, WHOLE % 4, X, reduce="add"),
    ),
    "places of a number among others": ("searchsorted", lambda: torch.searchsorted(X[0, 0], 0.1)),
    "a sort of floats, even a stable one": ("sort", lambda: X.sort(stable=True)),
    "the largest few": ("topk", lambda: X.topk(2)),
    "the largest few of integers": ("topk", lambda: WHOLE.topk(2)),
    "scatter that adds": ("scatter", lambda: X.scatter(2, WHOLE % 4, X, reduce="add")),
    "scatter that multiplies": ("scatter", lambda: X.scatter(2, WHOLE % 4, 2.0, reduce="multiply")),
    "scatter_reduce": ("scatter_reduce", lambda: X.scatter_reduce(2, WHOLE % 4, X, "sum")),
    "narrowing in two steps": ("_to_copy", lambda: X.double().to(torch.float16)),
    "to integers": ("_to_copy", lambda: X.to(int)),
    "integers to half": ("_to_copy", lambda: WHOLE.half()),
    "a copy to integers": ("copy_", lambda: torch.empty_like(WHOLE).copy_(X)),
    "cat of half and integers": ("cat", lambda: torch.cat([H, WHOLE])),
    "dropout in training": ("native_dropout", lambda: torch.native_dropout(X, 0.5, True)),
    "arange by fractions": ("arange", lambda: torch.arange(0, 1, 0.1)),
    "arange from a fraction": ("arange", lambda: torch.arange(0.1, 5)),
    "arange beyond what bfloat16 holds": (
        "arange",
        lambda: torch.arange(0, 999, dtype=torch.bfloat16),
    ),
    "sqrt": ("sqrt", lambda: X.sqrt()),
    "a sort, which orders equal elements at will": ("sort", lambda: WHOLE.sort()),
}


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
@pytest.mark.parametrize("label", INEXACT)
def test_a_call_outside_the_condition_is_refused(label: str) -> None:
    operator, call = INEXACT[label]
    with torch.no_grad(), Refused() as refused:
        call()
    assert operator in refused.operators


@pytest.mark.parametrize(
    "name", ["dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"]
)
@pytest.mark.parametrize("suffix", ["", "_"])
def test_dropout_is_the_identity_outside_training_only(name: str, suffix: str) -> None:
    func = getattr(torch.ops.aten, name + suffix).default
    assert exact.reason(func, (X, 0.5, False), {}, X) is not None
    assert exact.reason(func, (X, 0.5, True), {}, X) is None


EXACT: dict[str, Callable[[], Any]] = {
    "alpha = 1": lambda: torch.add(X, X, alpha=1),
    "half and a number that it holds": lambda: (H * 2, B - 0.5, H > 0, 1 - B, H / 4),
    "half and one of the same dtype": lambda: H * torch.tensor(0.1, dtype=torch.float16),
    "narrowing in one step": lambda: (X.half(), X.to(dtype=torch.bfloat16), X.double().float()),
    "between the half dtypes": lambda: (H.to(torch.bfloat16), B.to(torch.float16)),
    "half times a number": lambda: (H * 0.1, B / 0.7, H.clone().mul_(1e-6)),
    "half and bool": lambda: H * (H > 0),
    "half into float32": lambda: X.clone().add_(H),
    "a mask": lambda: X.clone().index_put_((X > 0,), X[X > 0]),
    "one value at one place twice": lambda: X.flatten().index_put((TWICE,), NUMBER),
    "places that differ": lambda: X.flatten().index_put((TWICE[1:],), X.flatten()[:2]),
    "places of a dimension that differ": lambda: torch.ops.aten.index_put(
        X, [None, torch.tensor([2, -3])], X[:, :2]
    ),
    "a stable sort of integers": lambda: WHOLE.sort(stable=True, descending=True),
    "places among numbers": lambda: (torch.searchsorted(X[0, 0], X), torch.bucketize(X, X[0, 0])),
    "out of the same dtype": lambda: torch.add(X, X, out=torch.empty_like(X)),
    "a conversion of Python's": lambda: (X.to(float), WHOLE.to(float)),
    "cat of float32 and half": lambda: torch.cat([X, H]),
    "integers": lambda: (WHOLE.sum(), WHOLE * 3, WHOLE // 2, WHOLE.cumsum(0)),
    "scatter of the last": lambda: X.scatter(2, WHOLE % 3, X),
    "arange": lambda: (torch.arange(5), torch.arange(0, 256, 2, dtype=torch.bfloat16)),
}


@pytest.mark.parametrize("label", EXACT)
def test_a_call_within_the_condition_is_not(label: str) -> None:
    with torch.no_grad(), Refused() as refused:
        EXACT[label]()
    assert refused.operators == []


def test_what_is_left_out_of_the_table_is_not_in_it() -> None:
    for name in ("sqrt", "maximum", "amax", "addcmul", "lerp", "sigmoid", "linspace", "topk"):
        assert name not in exact.operators()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["upsample_nearest2d", "_upsample_nearest_exact2d"])
def test_nearest_neighbours_depend_on_the_coordinate_only(name: str, dtype: torch.dtype) -> None:
    """The layouts have kernels of their own; both must find the same source for every size."""
    resize = getattr(torch.ops.aten, name)
    for old, new in itertools.product((1, 2, 5, 7, 13, 31), (1, 3, 7, 10, 14, 26, 61)):
        x = torch.arange(old, dtype=dtype).expand(2, 5, 2, old).contiguous()
        found = resize(x, [3, new], None)
        assert torch.equal(found, resize(x[:1], [3, new], None).expand_as(found))
        last = x.contiguous(memory_format=torch.channels_last)
        assert torch.equal(found, resize(last, [3, new], None))
        assert torch.equal(found.float(), resize(x.float(), [3, new], None))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_copies(mode: str) -> None:
    def pad(x: Tensor) -> Tensor:
        return F.pad(x, (2, 1), mode)

    with torch.inference_mode(), Refused() as refused:
        pad(X)
    assert refused.operators == []
