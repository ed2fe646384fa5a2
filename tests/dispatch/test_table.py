"""The table of functions that Python code calls: each call gets the row of what it computes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import bninv
from bninv.dispatch import covered, exact, table

X = torch.linspace(-2, 2, 96).view(2, 3, 4, 4)
H = X.half()
INDEX = torch.arange(3)
WEIGHT = torch.ones(4, 2)


class Calls(TorchFunctionMode):
    """What the table makes of each call: passes, is bninv's, exact, or has to be looked into."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        row = table.row_of(func)
        if row is None:
            kind = "unknown"
        elif row.passes:
            kind = "passes"
        elif row.adapter is not None:
            kind = "bninv's"
        else:
            kind = "exact" if row.is_exact(args, kwargs) else "inexact"
        self.kinds.append(kind)
        return func(*args, **kwargs)


def kinds(call: Callable[[], Any]) -> list[str]:
    with Calls() as calls:
        call()
    return calls.kinds


EXACT: dict[str, Callable[[], Any]] = {
    "x + y": lambda: X + X,
    "torch.add with alpha = 1": lambda: torch.add(X, X, alpha=1),
    "1 - x": lambda: 1 - X,
    "1 / x": lambda: 1 / X,
    "x / 3": lambda: X / 3,
    "2 * half": lambda: 2 * H,
    "x == y": lambda: X == X,
    "x.clip": lambda: X.clip(-1, 1),
    "torch.max along a dimension": lambda: torch.max(X, dim=1),
    "x.max along a dimension": lambda: X.max(1),
    "torch.split": lambda: torch.split(X, 2, 1),
    "x.split by sizes": lambda: X.split([1, 2], 1),
    "torch.broadcast_tensors": lambda: torch.broadcast_tensors(X, X),
    "torch.meshgrid": lambda: torch.meshgrid(INDEX, INDEX, indexing="ij"),
    "x.unfold": lambda: X.unfold(2, 2, 1),
    "F.unfold": lambda: F.unfold(X, 2),
    "F.pad, reflected": lambda: F.pad(X, (1, 1, 1, 1), "reflect"),
    "F.pad, by name": lambda: F.pad(X, (1, 1), mode="constant", value=2.0),
    "F.interpolate to the nearest": lambda: F.interpolate(X, scale_factor=2),
    "F.interpolate by position": lambda: F.interpolate(X, (3, 3), None, "nearest-exact"),
    "F.upsample": lambda: F.interpolate(X, size=(7, 9), mode="nearest"),
    "F.embedding": lambda: F.embedding(INDEX, WEIGHT),
    "F.dropout in eval": lambda: F.dropout(X, 0.5, False),
    "F.dropout in eval by name": lambda: F.dropout(X, training=False),
    "F.dropout2d in eval": lambda: F.dropout2d(X, 0.5, False),
    "torch.dropout in eval": lambda: torch.dropout(X, p=0.5, train=False),
    "torch.where with a number": lambda: torch.where(INDEX > 1, INDEX, 0),
    "F.hardtanh": lambda: F.hardtanh(X, -1, 1),
    "F.max_pool3d with indices": lambda: F.max_pool3d(X, 2, return_indices=True),
    "F.max_pool2d with indices": lambda: F.max_pool2d(X, 2, return_indices=True),
    "x.float of half": lambda: H.float(),
    "x.double": lambda: X.double(),
    "x.bool of bool": lambda: (INDEX > 1).bool(),
    "torch.tensor": lambda: torch.tensor([1.0, 2.0]),
    "x.new_tensor": lambda: X.new_tensor(3.0),
    "torch.arange": lambda: torch.arange(5),
    "x[0] = 1": lambda: X.clone().__setitem__(0, 1.0),
    "x[..., 1:] = y": lambda: X.clone().__setitem__((..., slice(1, None)), X[..., 1:]),
    "x[mask] = y": lambda: X.clone().__setitem__(X > 0, X[X > 0]),
    "x.half": lambda: X.half(),
    "x.to the other half": lambda: H.to(torch.bfloat16),
    "x.to narrower": lambda: X.to(torch.bfloat16),
    "x.type_as": lambda: X.type_as(H),
    "x.copy_ narrower": lambda: H.clone().copy_(X),
    "x[0] = y narrower": lambda: H.clone().__setitem__(0, X[0]),
}

INEXACT: dict[str, Callable[[], Any]] = {
    "torch.add with alpha": lambda: torch.add(X, X, alpha=2),
    "x.add with alpha": lambda: X.add(X, alpha=2),
    "x.sub_ with alpha": lambda: X.clone().sub_(X, alpha=2),
    "torch.rsub with alpha": lambda: torch.rsub(X, X, alpha=2),
    "torch.div rounded": lambda: torch.div(X, X, rounding_mode="floor"),
    "x.div rounded": lambda: X.div(2, rounding_mode="trunc"),
    "half and a number": lambda: H + 0.1,
    "half and a number by name": lambda: H.add(other=0.1),
    "half += float": lambda: H.clone().__iadd__(X),
    "a narrower out": lambda: torch.mul(X, X, out=torch.empty_like(H)),
    "torch.clamp by a tensor": lambda: torch.clamp(X, min=X),
    "x.clip by tensors": lambda: X.clip(X, X),
    "torch.max of two": lambda: torch.max(X, X),
    "x.max of two by name": lambda: X.max(other=X),
    "x.max": lambda: X.max(),
    "x.min": lambda: X.min(),
    "F.dropout": lambda: F.dropout(X),
    "F.dropout in training": lambda: F.dropout(X, 0.5, True),
    "F.dropout2d in training": lambda: F.dropout2d(X, training=True),
    "torch.dropout in training": lambda: torch.dropout(X, 0.5, True),
    "F.interpolate, bilinear": lambda: F.interpolate(X, scale_factor=2, mode="bilinear"),
    "F.interpolate by position": lambda: F.interpolate(X, None, 2, "bicubic"),
    "F.interpolate, antialias": lambda: F.interpolate(X, (2, 2), mode="bilinear", antialias=True),
    "F.embedding that normalises": lambda: F.embedding(INDEX, WEIGHT.clone(), None, 1.0),
    "x.round to decimals": lambda: X.round(decimals=2),
    "torch.arange by fractions": lambda: torch.arange(0, 1, 0.1),
    "x.long": lambda: X.long(),
    "x.to a type of Python's": lambda: X.to(int),
    "torch.as_tensor narrower": lambda: torch.as_tensor(X, dtype=torch.float16),
    "x[[1, 1]] = y": lambda: X.clone().__setitem__([1, 1], X),
    "x[indices] = y": lambda: X.clone().__setitem__(INDEX[:2], X),
    "x.index_put that adds": lambda: X.index_put((INDEX[:1],), X[0], True),
    "x.scatter that adds": lambda: WEIGHT.scatter(0, INDEX.view(3, 1), 1.0, reduce="add"),
}

UNKNOWN: dict[str, Callable[[], Any]] = {
    "x.mode": lambda: X.mode(1),
    "x.sum_to_size": lambda: X.sum_to_size(1, 3, 4, 4),
    "x.renorm": lambda: X.renorm(2, 0, 1.0),
    "torch.histc": lambda: torch.histc(X),
    "torch.logspace": lambda: torch.logspace(0, 1, 5),
    "torch.rand": lambda: torch.rand(2),
    "F.pdist": lambda: F.pdist(WEIGHT),
    "x.erfinv": lambda: X.erfinv(),
    "x.type": lambda: X.type("torch.HalfTensor"),
    "x.i0": lambda: X.i0(),
}


@pytest.mark.parametrize("label", EXACT)
def test_exact_calls(label: str) -> None:
    assert set(kinds(EXACT[label])) <= {"exact", "passes"}


@pytest.mark.filterwarnings("ignore:The reduce argument")
@pytest.mark.parametrize("label", INEXACT)
def test_inexact_calls_of_the_same_functions(label: str) -> None:
    assert kinds(INEXACT[label])[-1] == "inexact"


@pytest.mark.parametrize("label", UNKNOWN)
def test_what_has_no_row(label: str) -> None:
    assert kinds(UNKNOWN[label])[-1] == "unknown"


@pytest.mark.filterwarnings("ignore:This overload of add is deprecated")
def test_the_old_signature_of_add_has_its_alpha_in_the_middle() -> None:
    assert kinds(lambda: torch.add(X, 2, X)) == ["inexact"]
    assert kinds(lambda: X.add(2, X)) == ["inexact"]
    one = torch.ones(1)
    assert kinds(lambda: torch.add(one, 2, one)) == ["inexact"]


def test_questions_compute_nothing() -> None:
    """What passes without a look must not be a way to compute."""
    passing = {table.name_of(f) for f, row in table._function_rows().items() if row.passes}
    for name in ("backward", "sum", "norm", "matmul", "type", "half", "__rdiv__", "__pow__"):
        assert not any(p.rsplit(".", 1)[-1] == name for p in passing)


def test_functions_of_one_name_agree_on_their_row() -> None:
    """A function's row is that of its own name, or of the name that it is an alias of."""
    for function, row in table._function_rows().items():
        name = getattr(function, "__name__", "")
        if row.passes or name in ("fn", row.name) or not name:
            continue
        assert table._OPERATORS.get(name, name.lstrip("_")) in (row.name, "rdiv", "rtruediv")


def test_every_operator_of_the_table_that_python_can_call_has_a_row() -> None:
    missing = {
        name
        for name in exact.operators()
        for owner in (torch, torch.Tensor)
        if callable(getattr(owner, name, None)) and table.row_of(getattr(owner, name)) is None
    }
    assert missing == set()


def test_every_function_that_bninv_has_is_covered_by_its_stock_names() -> None:
    """As functions and as methods, in place too, but for those that are other functions."""
    calls_a_method = {torch.nn.functional.sigmoid, torch.nn.functional.tanh}
    returns_indices = {
        torch.adaptive_max_pool1d,
        torch._C._nn.adaptive_max_pool2d,
        torch._C._nn.adaptive_max_pool3d,
    }
    owners = (torch.nn.functional, torch, torch.Tensor, torch._C._nn, torch.special, torch.linalg)
    names = {*bninv.functional.__all__, "norm", "pow", "square", "mm", "bmm", "mv", "dot"}
    missing = {
        table.name_of(function)
        for name in names - {"Activation"}
        for spelling in (name, f"{name}_")
        for owner in owners
        if (function := getattr(owner, spelling, None)) is not None
        and function not in calls_a_method | returns_indices
        and ((row := table.row_of(function)) is None or (row.adapter or row.repair) is None)
    }
    assert missing == set()


def overloads(name: str) -> list[Any]:
    """The overloads of an operator that take a tensor first, and write into none given for it."""
    packet = getattr(torch.ops.aten, name)
    found = [getattr(packet, overload) for overload in packet.overloads()]
    return [
        op
        for op in found
        if str(op._schema.arguments[0].type)
        == ("List[Tensor]" if name in covered.OF_LISTS else "Tensor")
        and not any(a.is_out for a in op._schema.arguments)
    ]


@pytest.mark.parametrize("name", dict.fromkeys((*covered.ATEN, *covered.REPAIRS)))
def test_an_adapter_takes_every_call_that_pytorch_takes(name: str) -> None:
    """By position and by name: it may say that it is unfit, but must not fail for the signature."""
    adapter = {**covered.ATEN, **covered.REPAIRS}[name]
    assert overloads(name) or name in covered.OF_NUMBERS
    for op in overloads(name):
        arguments = op._schema.arguments
        positional = [a.name for a in arguments if not a.kwarg_only]
        keywords = dict.fromkeys(a.name for a in arguments if a.kwarg_only)
        signature = inspect.signature(adapter)
        signature.bind(*positional, **keywords)
        signature.bind("input", **dict.fromkeys(positional[1:]), **keywords)
        if name not in covered.OF_LISTS:
            first = positional[0] if positional[0] in signature.parameters else "input"
            signature.bind(**dict.fromkeys((first, *positional[1:]), "input"), **keywords)


@pytest.mark.parametrize("label", EXACT)
def test_an_exact_call_runs_strictly(label: str) -> None:
    with torch.no_grad(), bninv.invariant(strict=True):
        EXACT[label]()


def test_a_traced_scope_may_switch_gradients_off() -> None:
    """no_grad() is a call of a function like others, and has a row."""

    scope = bninv.invariant()

    def run(x: torch.Tensor) -> torch.Tensor:
        with scope, torch.no_grad():
            return x.float() + 1

    traced = torch.jit.trace(run, (H,), check_trace=False)
    assert torch.equal(traced(H), H.float() + 1)


def test_the_first_call_may_be_a_compiled_one() -> None:
    """The table is complete before it is read: a graph that saw it change would not be usable."""
    program = """
import torch, bninv
x = torch.ones(2, 3)
with bninv.invariant():
    compiled = torch.compile(lambda x: x.double() * 0.3 + torch.tensor(1), backend="eager")
    assert torch.equal(compiled(x), x.double() * 0.3 + 1)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
