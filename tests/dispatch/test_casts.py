"""Conversions, and arithmetic between dtypes, that stock does in more than one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as TF
from torch.utils._python_dispatch import TorchDispatchMode

import bninv
from bninv.dispatch import casts, selections, sequences
from tests.support.properties import INF, NAN, any_bits, assert_bits, normal
from tests.support.reference_dtypes import FLOATING

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
HALVES = (torch.float16, torch.bfloat16)
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)
halves = pytest.mark.parametrize("dtype", HALVES, ids=str)


def saturated(value: float, dtype: torch.dtype) -> int:
    """By integers without a bound."""
    limits = torch.iinfo(dtype)
    if value != value:
        return 0
    if value in (INF, -INF):
        return limits.max if value > 0 else limits.min
    return min(max(int(value), limits.min), limits.max)


@floating
@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_floats_made_integers(target: torch.dtype, dtype: torch.dtype) -> None:
    edges = [edge + d for edge in (0, 2**7, 2**8, 2**15, 2**31, 2**63) for d in (-1, -0.5, 0, 0.5)]
    numbers = [NAN, INF, *edges, 1e30, 2.75, *(x for x in (-0.0, -1.9, -129.0, -(2.0**63)))]
    x = torch.cat([torch.tensor(numbers + [-n for n in numbers], dtype=torch.float64).to(dtype)])
    x = torch.cat([x, any_bits("x", (500,), dtype)])
    expected = torch.tensor([saturated(v, target) for v in x.double().tolist()], dtype=target)
    with bninv.invariant(strict=True):
        found = [
            x.to(target),
            x.type(target),
            x.to("cpu", target),
            x.to(dtype=target, copy=True),
            x.type_as(expected),
            x.to(expected),
            torch.empty_like(expected).copy_(x),
        ]
        if target == torch.int32:
            found += [x.int()]
        if target == torch.int64:
            found += [x.long(), x.to(int)]
    for result in found:
        assert result.dtype == target
        assert torch.equal(result, expected)
    # Where it is defined, it is stock's.
    small = normal("y", 200).mul(30).abs().to(dtype)
    stock = small.to(target)
    with bninv.invariant(strict=True):
        assert torch.equal(small.to(target), stock)


@halves
def test_to_half_precision_by_way_of_float32(dtype: torch.dtype) -> None:
    wide = torch.cat([any_bits("x", (2000,), torch.float64), normal("x", 2000).double() * 1e-3])
    whole = torch.tensor([0, 1, -7, 2049, 2**24 + 1, -(2**40) - 1, 2**62 + 2**37 + 1])
    with bninv.invariant(strict=True):
        for x in (wide, whole):
            assert_bits(x.to(dtype), x.float().to(dtype))
            assert_bits(x.half() if dtype == torch.float16 else x.bfloat16(), x.float().to(dtype))


def test_a_conversion_of_float64_to_half_precision_is_two() -> None:
    """Whatever a backend's own conversion would be: this CPU's gives the same bits."""
    made = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default:
                made.append(result.dtype)
            return result

    with bninv.invariant(), Recorder():
        torch.ones(3, dtype=torch.float64).half()
    assert made == [torch.float32, torch.float16]


def test_booleans_are_comparisons_with_zero() -> None:
    x = torch.tensor([0.0, -0.0, NAN, INF, 1e-40, -1.0])
    with bninv.invariant(strict=True):
        assert x.bool().tolist() == x.to(bool).tolist() == [False, False, True, True, True, True]


@halves
def test_half_precision_beside_numbers_and_others(dtype: torch.dtype) -> None:
    x, y = normal("x", 500).to(dtype), normal("y", 500).to(dtype)
    whole = torch.arange(500) * 37
    a, b = x.float(), y.float()
    with bninv.invariant(strict=True):
        found: list[tuple[Tensor, Tensor]] = [
            (x + 0.1, a + 0.1),
            (0.1 - x, 0.1 - a),
            (x.clone().add_(1e-6), a + 1e-6),
            (x - whole, a - whole.float()),
            (x * whole, a * whole.float()),
            (whole * x, a * whole.float()),
            (x / whole[1:2], a / 37.0),
            (x + torch.tensor(0.1), a + torch.tensor(0.1)),
            (torch.add(x, y, alpha=0.3), a + b * 0.3),
            (torch.sub(x, y, alpha=0.3), a - b * 0.3),
            (torch.rsub(x, y, alpha=0.3), b - a * 0.3),
            (torch.addcmul(x, y, y, value=0.3), a + (b * 0.3) * b),
            (torch.addcdiv(x, y, y, value=0.3), a + (b * 0.3) / b),
            (torch.lerp(x, y, 0.3), a + (b - a) * 0.3),
            (torch.lerp(x, y, 0.7), b - (b - a) * (1 - torch.tensor(0.7))),
        ]
        assert torch.equal(x > 0.1, a > 0.1)
        assert torch.isclose(x, x).all()
    for i, (result, expected) in enumerate(found):
        assert_bits(result, expected.to(dtype), str(i))


def test_float32_with_factors() -> None:
    x, y = normal("x", 500), normal("y", 500)
    with bninv.invariant(strict=True):
        assert_bits(torch.add(x, y, alpha=0.3), x + y * 0.3)
        assert_bits(x.clone().sub_(y, alpha=2), x - y * 2)
        assert_bits(torch.arange(9) / 7, torch.arange(9).float() / torch.tensor(7.0))
        near_x = x + y * (y - x)
        near_y = y - (y - x) * (1 - y)
        assert_bits(torch.lerp(x, y, y), torch.where(y.abs() < 0.5, near_x, near_y))
        assert_bits(x.round(decimals=2), (x * 100).round() / torch.tensor(100.0))
        assert_bits(x.frac(), x - x.trunc())
        a, b = x[:300].view(3, 100), y[:300].view(3, 100)
        crossed = torch.cross(a, b, dim=0)
        expected = [a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)]
    assert_bits(crossed, torch.stack(expected))
    torch.testing.assert_close(crossed, torch.linalg.cross(a, b, dim=0))


# ---- Selections: what stands in for stock on CUDA has stock's bits on the CPU --------------------

SELECTED: dict[str, tuple[Any, Any]] = {
    "clamp": (lambda x: selections.clamp(x, 0, 1), lambda x: x.clamp(0, 1)),
    "clamp_min": (lambda x: selections.clamp(x, 0.0), lambda x: x.clamp_min(0)),
    "clamp_max": (lambda x: selections.clamp(x, None, -0.0), lambda x: x.clamp_max(-0.0)),
    "bounds rounded": (lambda x: selections.clamp(x, -0.3, 0.7), lambda x: x.clamp(-0.3, 0.7)),
    "hardtanh": (lambda x: selections.hardtanh(x, 0, 1), lambda x: TF.hardtanh(x, 0, 1)),
    "threshold": (lambda x: selections.threshold(x, 0, 0.1), lambda x: TF.threshold(x, 0, 0.1)),
    "hardshrink": (selections.hardshrink, TF.hardshrink),
}  # fmt: skip


@floating
@pytest.mark.parametrize("name", SELECTED)
def test_selections_are_stocks(name: str, dtype: torch.dtype) -> None:
    x = torch.cat([any_bits("x", (777,), dtype), torch.tensor([0.0, -0.0, 1, 0.5, -0.5]).to(dtype)])
    own, stock = SELECTED[name]
    assert_bits(own(x), stock(x))


@floating
def test_activations_are_their_expressions(dtype: torch.dtype) -> None:
    F = bninv.functional
    x = torch.cat([normal("x", 3, 8) * 2, torch.tensor([[NAN, INF, -INF, 0.0, -0.0, 0.5, 1, -1]])])
    x = x.to(dtype)
    wide = x if dtype == torch.float64 else x.float()
    with bninv.invariant(strict=True):
        glu, shrunk = TF.glu(x, 1), TF.softshrink(x, 0.3)
        assert_bits(TF.rrelu(x), F.leaky_relu(x, (1 / 8 + 1 / 3) / 2))
        assert_bits(torch.rrelu(x), F.leaky_relu(x, (1 / 8 + 1 / 3) / 2))
    assert_bits(glu, (wide[:, :4] * F.sigmoid(wide[:, 4:])).to(dtype))
    torch.testing.assert_close(shrunk, TF.softshrink(x, 0.3), equal_nan=True)


def test_pairs_of_numbers() -> None:
    a = torch.tensor([NAN, 1.0, NAN, 0.0, -0.0, INF, -INF])
    b = torch.tensor([2.0, NAN, NAN, -0.0, 0.0, INF, -INF])
    stock = a.double().logaddexp(b.double()).float()
    with bninv.invariant(strict=True):
        assert_bits(torch.fmax(a, b), torch.tensor([2.0, 1, NAN, 0, 0, INF, -INF]))
        assert_bits(torch.fmin(a, b), torch.tensor([2.0, 1, NAN, -0.0, -0.0, INF, -INF]))
        torch.testing.assert_close(torch.logaddexp(a, b), stock, equal_nan=True)
        assert_bits(torch.clamp(b[3:], a[3:], a[3:]), torch.tensor([0.0, -0.0, INF, -INF]))
        assert_bits(a.nansum(), torch.tensor(NAN))


# ---- Sequences -----------------------------------------------------------------------------------


@floating
def test_sequences(dtype: torch.dtype) -> None:
    """An element is a function of its index: a longer sequence changes none."""
    for count in (2, 7, 8, 9, 100):
        stock = torch.linspace(-1, 2, count, dtype=torch.float64).to(dtype)
        with bninv.invariant(strict=True):
            steps = torch.arange(0.1, 0.3 * count, 0.3, dtype=dtype)
            line = torch.linspace(-1, 2, count, dtype=dtype)
            back = torch.linspace(2, -1, count, dtype=dtype)
        numbers = torch.from_numpy(np.arange(count) * 0.3 + 0.1)
        assert_bits(steps, casts.prepared(numbers, dtype).to(dtype))
        assert line[0] == -1 and line[-1] == 2
        torch.testing.assert_close(line, stock)
        assert_bits(back[: count // 2], line.flip(0)[: count // 2])
    with bninv.invariant(strict=True):
        assert_bits(torch.arange(7.0, dtype=dtype), torch.arange(7).to(dtype))
        assert_bits(torch.arange(start=1, end=3, step=0.5), torch.tensor([1.0, 1.5, 2, 2.5]))
        assert torch.linspace(0, 1, 0).shape == (0,)
        assert_bits(torch.linspace(0.1, 5, 1, dtype=torch.float32), torch.tensor([0.1]))
    assert sequences.arange(3, 3.0).shape == (0,)
