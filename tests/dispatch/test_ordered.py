"""Sorting and choosing (bninv.dispatch.ordered): one result, in every batch and layout."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.dispatch import exact
from bninv.testing import assert_bitwise_equal
from tests.support.properties import any_bits, generator, layouts, special_values

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def with_ties(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Small numbers, zeros of both signs, infinities and NaN, most of them several times."""
    rng = generator((shape, dtype))
    near = torch.from_numpy(rng.integers(-3, 4, shape) / 2).to(dtype)
    special = special_values(dtype)[torch.from_numpy(rng.integers(0, 10, shape))]
    kind = torch.from_numpy(rng.integers(0, 3, shape))
    mixed = torch.where(kind == 0, special, near)
    return torch.where(kind == 1, any_bits(shape, shape, dtype), mixed)


@contextmanager
def strictly() -> Iterator[None]:
    with torch.no_grad(), bninv.invariant(strict=True):
        yield


def same(actual: Any, expected: Any, label: str = "") -> None:
    if isinstance(actual, Tensor):
        assert_bitwise_equal(actual, expected, label)
        return
    assert type(actual) is type(expected) and len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_bitwise_equal(a, e, label)


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "sort": lambda x: x.sort(),
    "sort down": lambda x: torch.sort(x, 1, descending=True),
    "sort that asks for stability": lambda x: torch.sort(x, dim=-1, stable=True),
    "argsort": lambda x: x.argsort(1, True),
    "argsort, stable": lambda x: torch.argsort(x, stable=True),
    "topk": lambda x: x.topk(5),
    "topk of a dimension": lambda x: torch.topk(x, k=3, dim=1),
    "least": lambda x: torch.topk(x, 4, largest=False),
    "amax": lambda x: x.amax((1, 2)),
    "amax, kept": lambda x: torch.amax(x, dim=(-1,), keepdim=True),
    "amin": lambda x: x.amin(1),
    "amin by NumPy's names": lambda x: torch.amin(x, axis=2, keepdims=True),  # type: ignore[call-arg]
    "aminmax": lambda x: torch.aminmax(x, dim=2),
    "max": lambda x: x.max(2),
    "min": lambda x: torch.min(x, dim=1, keepdim=True),
    "median": lambda x: x.median(2),
    "median, kept": lambda x: torch.median(x, dim=1, keepdim=True),
    "nanmedian": lambda x: x.nanmedian(1),
    "kthvalue": lambda x: x.kthvalue(3, 1),
    "cummax": lambda x: x.cummax(1),
    "cummin": lambda x: torch.cummin(x, dim=-1),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "maximum": lambda x: torch.max(x, x.flip(1)),
}
WHOLE: dict[str, Callable[[Tensor], Any]] = {
    "max": lambda x: x.max(),
    "min": lambda x: torch.min(x),
    "amax": lambda x: x.amax(),
    "amin": lambda x: x.amin((0, 1, 2), keepdim=True),
    "aminmax": lambda x: x.aminmax(),
    "msort": lambda x: torch.msort(x),
    "median": lambda x: x.median(),
    "nanmedian": lambda x: torch.nanmedian(x),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CALLS)
def test_a_row_does_not_see_the_others(name: str, dtype: torch.dtype) -> None:
    x, call = with_ties((7, 19, 37), dtype), CALLS[name]
    arranged = [(label, y.squeeze(-1)) for label, y in layouts(x.unsqueeze(-1))]
    with strictly():
        whole = call(x)
        parts = [whole] if isinstance(whole, Tensor) else list(whole)
        for begin, end in ((0, 1), (3, 5), (6, 7)):
            part = call(x[begin:end])
            for a, e in zip([part] if isinstance(part, Tensor) else part, parts, strict=True):
                assert_bitwise_equal(a, e[begin:end], f"{begin} to {end}")
        for label, laid_out in arranged:
            same(call(laid_out), whole, label)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*CALLS, *WHOLE])
def test_it_is_stocks_result_up_to_what_stock_leaves_open(name: str, dtype: torch.dtype) -> None:
    """Values, and the zeros' signs and the order of equal elements apart, indices."""
    x = with_ties((4, 19, 37), dtype)
    call = {**CALLS, **WHOLE}[name]
    stock = call(x)
    with strictly():
        own = call(x)
    if isinstance(stock, Tensor):
        stock, own = (stock,), (own,)
    else:
        assert type(own) is type(stock)
        assert getattr(own, "values", own[0]) is own[0]
    for o, s in zip(own, stock, strict=True):
        assert (o.shape, o.dtype) == (s.shape, s.dtype)
        if s.is_floating_point():
            assert torch.equal(torch.nan_to_num(o, 7.5), torch.nan_to_num(s, 7.5))


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8])
@pytest.mark.parametrize("descending", [False, True])
def test_a_sort_is_numpys_stable_one(dtype: torch.dtype, descending: bool) -> None:
    x = with_ties((5, 67), dtype) if dtype.is_floating_point else torch.arange(335).view(5, 67) % 7
    x = x.to(dtype)
    rows = x.double().numpy()
    # NumPy has NaN last, PyTorch takes it for the largest: first, where the largest are.
    ordered = np.where(np.isnan(rows), np.inf, rows)
    keys = np.stack([np.isnan(rows).astype(np.float64), ordered])
    keys = -keys if descending else keys
    expected = torch.from_numpy(np.lexsort((keys[1], keys[0])))
    with strictly():
        values, indices = x.sort(descending=descending)
        assert torch.equal(indices, expected)
        assert_bitwise_equal(values, x.gather(1, expected))
        if descending:
            same(tuple(x.topk(9)), (values[:, :9], expected[:, :9]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_so_far_is_stocks_on_the_cpu(dtype: torch.dtype) -> None:
    """Zeros' signs and indices too: one element after another leaves no choice."""
    x = with_ties((5, 67), dtype)
    for name in ("cummax", "cummin"):
        for dim in (0, 1):
            stock = getattr(x, name)(dim)
            with strictly():
                own = getattr(x, name)(dim)
            assert torch.equal(own.indices, stock.indices)
            assert_bitwise_equal(own.values, stock.values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_median_is_of_its_rank(dtype: torch.dtype) -> None:
    nan = float("nan")
    rows = torch.tensor([[3, 1, 2, 4, 1], [1, nan, 0, nan, 2], [nan] * 5, [2, -0.0, 0, 5, -1]])
    lone = torch.tensor([[nan, nan, 5, nan, nan]])
    with strictly():
        assert lone.nanmedian(1).values.item() == lone.nanmedian().item() == 5
        middle, rest, third = rows.median(1), rows.nanmedian(1), rows.kthvalue(3)
    assert_bitwise_equal(middle.values, torch.tensor([2, nan, nan, 0.0]))
    assert middle.indices.tolist() == [2, 1, 0, 2]
    assert_bitwise_equal(rest.values, torch.tensor([2, 1, nan, 0.0]))
    assert_bitwise_equal(third.values, torch.tensor([2, 2, nan, 0.0]))
    even = torch.tensor([4.0, 1, 3, 2]).to(dtype)
    with strictly():
        assert even.median() == 2


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_is_r0s(dtype: torch.dtype) -> None:
    """NaN wins, and +0 is greater than -0, wherever they stand."""
    plus, minus, nan = 0.0, -0.0, float("nan")
    rows = torch.tensor([[minus, plus, minus], [plus, minus, -1], [minus] * 3, [1, nan, 2]])
    rows = rows.to(dtype).repeat(1, 11)
    largest = torch.tensor([plus, plus, minus, nan], dtype=dtype)
    least = torch.tensor([minus, -1, minus, nan], dtype=dtype)
    with strictly():
        for x in (rows, rows.flip(1)):
            assert_bitwise_equal(x.amax(1), largest)
            assert_bitwise_equal(x.amin(1), least)
            assert_bitwise_equal(torch.stack([row.max() for row in x]), largest)
            assert_bitwise_equal(torch.stack([row.min() for row in x]), least)


def test_minimum_of_special_values() -> None:
    nan = float("nan")
    a = torch.tensor([0.0, -0.0, -0.0, 0.0, nan, 1.0, -1.0]).repeat(11)
    b = torch.tensor([-0.0, 0.0, -0.0, 0.0, 1.0, nan, -2.0]).repeat(11)
    expected = torch.tensor([-0.0, -0.0, -0.0, 0.0, nan, nan, -2.0]).repeat(11)
    with strictly():
        assert_bitwise_equal(torch.minimum(a, b), expected)
        assert_bitwise_equal(torch.min(b, a), expected)


def test_gradients_go_to_the_chosen_elements() -> None:
    x = torch.tensor([[3.0, 1.0, 3.0], [2.0, 5.0, 4.0]], requires_grad=True)
    with bninv.invariant():
        y = x.topk(1).values * 2
    y.backward(torch.ones(2, 1))
    assert torch.equal(x.grad, torch.tensor([[2.0, 0, 0], [0, 2.0, 0]]))


def test_what_stock_refuses_is_refused_by_stock() -> None:
    x = torch.ones(2, 3)
    with warnings.catch_warnings(), bninv.invariant():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="out of range"):
            x.topk(4)
        with pytest.raises(IndexError, match="Dimension out of range"):
            x.amax(2)
        with pytest.raises(IndexError, match="Dimension out of range"):
            x.sort(3)
        with pytest.raises((RuntimeError, IndexError)):
            x[:, :0].amax(1)
        with pytest.raises(RuntimeError, match="appears multiple times"):
            x.amax((1, 1))


def test_a_tensor_without_dimensions() -> None:
    x = torch.tensor(-0.0)
    with strictly():
        assert_bitwise_equal(x.sort()[0], x)
        assert_bitwise_equal(x.amax(), x)
        assert_bitwise_equal(x.max(), x)


def test_keys_are_all_that_is_sorted() -> None:
    """Of stock's sorts only that of integers is relied on, and only a stable one."""

    class Sorts(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            if func.overloadpacket is torch.ops.aten.sort:
                assert exact.reason(func, args, kwargs or {}, result) is not None
            return result

    with torch.no_grad(), bninv.invariant(), Sorts():
        for call in CALLS.values():
            call(with_ties((2, 5, 6), torch.float32))


class Detector(nn.Module):
    """What detectors do with their scores."""

    def forward(self, scores: Tensor) -> Tensor:
        best, places = scores.flatten(1).topk(7)
        order = best.sort(descending=True).indices
        return best.gather(1, order) + places.gather(1, order)


def test_compiled_it_is_the_same() -> None:
    model, x = bninv.patch(Detector().eval(), strict=True), with_ties((5, 6, 7), torch.float32)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert_bitwise_equal(compiled(x), model(x))
        program = torch.export.export(model, (x,))
        assert_bitwise_equal(program.module()(x), model(x))


def test_torchscript_has_no_operator_for_bit_patterns() -> None:
    model = bninv.patch(Detector().eval())
    with torch.no_grad(), pytest.raises(bninv.NotInvariantError, match="topk is not covered"):
        torch.jit.trace(model, torch.ones(5, 6, 7))


@pytest.mark.parametrize("which", ["amax", "amin"])
@pytest.mark.parametrize("keepdim", [False, True])
def test_an_extreme_has_a_gradient_and_the_same_bits(which: str, keepdim: bool) -> None:
    """With a gradient it is the element itself that is taken."""
    x = with_ties((3, 4, 5), torch.float32).nan_to_num(0.5)
    with strictly():
        expected = getattr(x, which)((0, 2), keepdim)
    x.requires_grad_()
    with bninv.invariant():
        found = getattr(x, which)((0, 2), keepdim)
    assert_bitwise_equal(found.detach(), expected)
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.sum((0, 2)), torch.ones(4)) and (x.grad <= 1).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_extremes_of_what_does_not_float(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1]]).to(dtype)
    with strictly():
        found = x.amax(1), x.amin(1)
    assert all(part.dtype is dtype for part in found)
    same(found, (torch.tensor([1, 0, 1]).to(dtype), torch.tensor([0, 0, 1]).to(dtype)))


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_no_element_has_the_message_of_stock(needs_gradient: bool) -> None:
    x = torch.ones(2, 0, requires_grad=needs_gradient)
    with pytest.raises(IndexError) as stock:
        x.amax(1)
    with bninv.invariant(), pytest.raises(IndexError) as found:
        x.amax(1)
    assert str(found.value) == str(stock.value)
