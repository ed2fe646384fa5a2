"""bninv.check: which operators are uncovered, and whether the exact ones are exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv.checking.audit import find_uncovered
from bninv.checking.bits import same_bits
from bninv.dispatch import exact
from tests.support.small_models import Functional, images, patched, small_cnn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: F.softmax(x, 1), "aten::_softmax"),
        (lambda x: x - x.mean((2, 3), keepdim=True), "aten::mean"),
        (torch.sigmoid, "aten::sigmoid"),
        (lambda x: torch.add(x, x, alpha=0.3), "aten::add"),
        (lambda x: x * x.sqrt(), "aten::sqrt"),
        (lambda x: F.conv2d(x, torch.ones(16, 1, 1, 1), groups=16), "aten::convolution"),
        (lambda x: x - x.amax((2, 3), keepdim=True), "aten::amax"),
    ],
)
def test_a_functional_call_is_found(function: Callable[[Tensor], Tensor], operator: str) -> None:
    """In a stock model: a patched one takes many of these calls over itself."""
    model = nn.Sequential()
    model.add_module("plant", nn.Sequential(Functional(function), Functional(function)))
    (entry,) = find_uncovered(model.eval(), torch.rand(2, 16, 8, 8))
    assert (entry.operator, entry.count, entry.first) == (operator, 2, "plant.0")
    # This file's line, or for an operator of torch handed over as it is, the line that calls it.
    assert entry.line.split(":")[0] in (
        "tests/checking/test_audit.py",
        "tests/support/small_models.py",
    )
    assert entry.code
    assert [(site.module, site.calls) for site in entry.sites] == [("plant.0", 1), ("plant.1", 1)]


def test_exact_functional_calls_are_not_listed() -> None:
    def exact_calls(x: Tensor) -> Tensor:
        x = F.relu(torch.cat([x[:, 8:], x[:, :8]], 1)) + 2 * x - x / 3
        return F.pad(x.clamp(-9, 9), (1, 1, 1, 1))[..., 1:-1, 1:-1].transpose(2, 3).contiguous()

    assert find_uncovered(patched(small_cnn(Functional(exact_calls))), images(2)) == []


def test_floats_made_integers_are_listed_where_some_do_not_fit() -> None:
    def indices(x: Tensor) -> Tensor:
        return x + x.to(torch.uint8) * torch.arange(x.shape[-1]) * 0.5

    for value, fits in (
        (255.9, True),
        (256.0, False),
        (-0.9, True),
        (-1.0, False),
        (math.nan, False),
    ):
        x = torch.rand(2, 16, 8, 8)
        x[1, 3, 4, 5] = value
        entries = find_uncovered(nn.Sequential(Functional(indices)), x)
        assert ("aten::_to_copy" not in [entry.operator for entry in entries]) == fits, value
    assert find_uncovered(patched(small_cnn(Functional(indices))), images(2)) == []


def test_patching_names_what_it_cannot_do_in_the_notes() -> None:
    plant = nn.Sequential(Functional(torch.i0), nn.BatchNorm2d(16, track_running_stats=False))
    result = bninv.check(small_cnn(plant), images())
    assert "aten::i0" in [entry.operator for entry in result.uncovered]
    assert not result.passed
    assert any("plant.1" in note for note in result.notes)


SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 3e38, -3e38, 1.0, 6.0]
A = torch.tensor(SPECIAL * 12 + torch.randn(99).tolist())
B = A[torch.randperm(len(A), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    "function",
    [
        torch.add,
        torch.sub,
        torch.mul,
        torch.div,
        lambda a, b: a * 0.3 + 0.7,
        lambda a, b: 0.7 - a / 0.3,
        lambda a, b: a.neg().abs().floor(),
        lambda a, b: F.relu(a),
        lambda a, b: F.relu6(a),
        lambda a, b: a.clamp(-1, 1),
        lambda a, b: a.clamp(min=-0.0, max=0.0),
        lambda a, b: F.leaky_relu(a, 0.1),
        lambda a, b: F.threshold(a, 0.5, 0.1),
        lambda a, b: torch.where(a > b, a, b),
    ],
)
def test_exact_elementwise_operators_are(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The same bits in a vector's body and tail, and wherever the element lies in memory."""
    whole = function(A, B)
    for start in (1, 3, 8):
        assert same_bits(function(A[start:], B[start:]), whole[start:])
    alone = torch.cat(
        [function(a.clone(), b.clone()) for a, b in zip(A.split(1), B.split(1), strict=True)]
    )
    assert same_bits(alone, whole)
    apart = function(torch.stack([A, A], 1)[:, 0], torch.stack([B, B], 1)[:, 0])
    assert same_bits(apart, whole)


aten = torch.ops.aten
HALF = torch.ones(2, dtype=torch.float16)
ONES = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((aten.add.Tensor, (ONES, ONES), {}), True),
        ((aten.add.Tensor, (ONES, ONES), {"alpha": 2}), False),
        ((aten.rsub.Scalar, (ONES, 1, 2), {}), False),
        ((aten.mul.Tensor, (HALF, HALF), {}), True),
        ((aten.mul.Tensor, (HALF, torch.tensor(0.1)), {}), False),
        ((aten.div.Tensor, (ONES, ONES), {}), True),
        ((aten.div.Tensor_mode, (ONES, ONES), {"rounding_mode": "floor"}), False),
        ((aten._to_copy.default, (HALF,), {"dtype": torch.float32}), True),
        ((aten._to_copy.default, (ONES,), {"dtype": torch.float16}), True),
        ((aten._to_copy.default, (ONES,), {"dtype": torch.bfloat16}), True),
        ((aten._to_copy.default, (HALF,), {"dtype": torch.bfloat16}), True),
        ((aten.index_put.default, (ONES, [torch.tensor([0])], ONES[0]), {}), True),
        ((aten.index_put.default, (ONES, [torch.tensor([0])], ONES[0], True), {}), False),
        ((aten.maximum.default, (ONES, ONES), {}), False),
        ((aten.clamp.default, (ONES, 0, 1), {}), True),
        ((aten.clamp.Tensor, (ONES, ONES), {}), False),
        ((aten.max.dim, (ONES, 1), {}), True),
        ((aten.max.default, (ONES,), {}), False),
        ((aten.amax.default, (ONES, [1]), {}), False),
        ((aten.sum.default, (torch.ones(3, dtype=torch.int64),), {}), True),
        ((aten.sum.default, (ONES,), {}), False),
        ((aten.mm.default, (ONES, ONES), {}), False),
        ((aten.bernoulli.default, (ONES,), {}), False),
    ],
)
def test_the_table_of_exact_operators(
    call: tuple[object, tuple[object, ...], dict[str, object]], expected: bool
) -> None:
    func, args, kwargs = call
    result = func(*args, **kwargs)
    assert (exact.reason(func, args, kwargs, result) is not None) is expected
