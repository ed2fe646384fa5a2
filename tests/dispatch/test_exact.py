"""Each row of `dispatch.exact` is exact: a copy of an input, or one correctly rounded operation.

Every operator of the table has a case here. Copies are proven by their indices: the operator moves
a tensor of positions, and its result must be the elements at these positions. What computes must
equal NumPy, whatever the length of a vector's tail and wherever it begins. And all must give a
sample the same bits in every batch, layout and number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bninv.dispatch import exact
from tests.support import exact_arithmetic, exact_cases, reference_dtypes
from tests.support.exact_arithmetic import CONVERSIONS, CREATION, WHOLE, Elementwise
from tests.support.exact_cases import Case
from tests.support.properties import INTEGERS, any_bits, generator, layouts, special_values

MOVES = [*exact_cases.VIEWS, *exact_cases.COPIES]
ELEMENTWISE = [*exact_arithmetic.ARITHMETIC, *exact_arithmetic.COMPARISONS]
BATCHED = [*MOVES, *ELEMENTWISE, *exact_arithmetic.SELECTIONS]
LARGE = 2 * 32768 + 67  # elements: several threads' work
SHAPE = (17, 5, 6, 7)  # 210 elements a sample: no vector's multiple


def each(cases: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


# ---- Data ----------------------------------------------------------------------------------------


@functools.cache
def values(label: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Any bits, special values, halves and small numbers, mixed."""
    rng = generator((label, dtype))
    if dtype == torch.bool:
        return torch.from_numpy(rng.random(shape) < 0.5)
    if not dtype.is_floating_point:
        near = torch.from_numpy(rng.integers(-3, 4, shape)).to(dtype)
        bits = (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        far = torch.from_numpy(rng.integers(*bits, shape, np.int64, endpoint=True)).to(dtype)
        return torch.where(torch.from_numpy(rng.random(shape) < 0.5), near, far)
    halves = torch.from_numpy(rng.integers(-9, 10, shape) / 2).to(dtype)
    normal = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
    special = special_values(dtype)[torch.from_numpy(rng.integers(0, 10, shape))]
    kind = torch.from_numpy(rng.integers(0, 4, shape))
    mixed = torch.where(kind == 0, any_bits((label, dtype), shape, dtype), normal)
    return torch.where(kind == 1, halves, torch.where(kind == 2, special, mixed))


def fresh(x: Tensor) -> Tensor:
    """A tensor of the same strides and misalignment in memory of its own, for in-place calls."""
    if x.is_neg():
        return torch._neg_view(fresh(torch._neg_view(x)))
    storage = x.untyped_storage().clone()
    return torch.empty(0, dtype=x.dtype).set_(storage, x.storage_offset(), x.shape, x.stride())


@functools.cache
def arranged(label: str, dtype: torch.dtype) -> list[tuple[str, Tensor]]:
    return list(_arranged(values(label, SHAPE, dtype)[:3]))


def _arranged(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    if x.is_floating_point():
        yield from layouts(x)
        return
    yield "channels_last", x.contiguous(memory_format=torch.channels_last)
    yield "sliced", torch.cat([x[:, :1], x, x], 1)[:, 1 : 1 + x.shape[1]]
    yield "reversed", x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


def bits(x: Tensor) -> Tensor:
    """Bit patterns, with one for all NaN."""
    x = x.detach().resolve_neg()
    if x.is_floating_point():
        numbers = x.contiguous().view(INTEGERS[x.element_size()])
        return numbers.masked_fill(x.isnan(), -1)  # all ones: a NaN too
    return x.contiguous()


def assert_same(actual: list[Tensor], expected: list[Tensor], message: str = "") -> None:
    assert len(actual) == len(expected), message
    for a, e in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype), message
        differ = bits(a) != bits(e)
        if differ.any():
            first = tuple(differ.nonzero()[0].tolist())
            pytest.fail(
                f"{message}: {int(differ.sum())} differ, first {first}: {a[first]} {e[first]}"
            )


# ---- Completeness --------------------------------------------------------------------------------


def test_every_operator_of_the_table_has_a_case() -> None:
    found = {case.operator for case in BATCHED} | {name for name, *_ in WHOLE}
    found |= {*CREATION, *CONVERSIONS, "eye", "arange", "tril_indices", "triu_indices"}
    assert found == exact.operators()


class Recorder(TorchDispatchMode):
    """Calls that the table does not call exact, and the names of all."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen.add(func.overloadpacket.__name__)
        if exact.reason(func, args, kwargs or {}, result) is None:
            self.refused.add(str(func))
        return result


# complex() makes the input of these.
PREPARATION = {"aten.complex.default"}


@each(BATCHED)
def test_the_table_calls_the_case_exact(case: Case) -> None:
    """What is proven below is what the conditions let pass."""
    for dtype in case.dtypes:
        x, y = values("x", SHAPE, dtype)[:2], values("y", SHAPE, dtype)[:2]
        with torch.inference_mode(), Recorder() as recorder:  # composite operators arrive whole
            case(x.clone(), y)
        assert recorder.refused <= PREPARATION
        assert case.operator in recorder.seen


# ---- Copies --------------------------------------------------------------------------------------


@each(MOVES)
def test_a_copy_is_of_the_elements_at_its_positions(case: Case) -> None:
    shape = (3, *SHAPE[1:])
    n = 3 * SHAPE[1] * SHAPE[2] * SHAPE[3]
    # Position 0 is a zero, with which the cases pad.
    position = torch.arange(1, 2 * n + 1, dtype=torch.float32)
    positions = case(position[:n].view(shape).clone(), position[n:].view(shape))
    for dtype in case.dtypes:
        x, y = values("x", SHAPE, dtype)[:3], values("y", SHAPE, dtype)[:3]
        table = torch.cat([torch.zeros(1, dtype=dtype), x.flatten(), y.flatten()])
        expected = [table[p.long()] for p in positions]
        actual = [a.to(dtype) if case.operator == "positive" else a for a in case(x.clone(), y)]
        assert_same(actual, expected, str(dtype))


# ---- One operation an element --------------------------------------------------------------------


def arithmetic(x: Tensor) -> np.ndarray:
    """Widened to the arithmetic type without PyTorch's conversions, which are under test."""
    if x.dtype == torch.bfloat16:
        pattern = x.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
        return (pattern << 16).view(np.float32)
    array = x.numpy()
    return array.astype(np.float32) if x.dtype == torch.float16 else array


def referenced(case: Elementwise, x: Tensor, y: Tensor) -> list[Tensor]:
    with np.errstate(all="ignore"):
        result = np.asarray(case.reference(arithmetic(x), arithmetic(y)))
    if result.dtype.kind in "bi" or not x.is_floating_point():
        return [torch.from_numpy(result)]
    return [reference_dtypes.rounded(result, x.dtype)]


@each(ELEMENTWISE)
def test_an_operation_is_numpys_in_every_tail(case: Elementwise) -> None:
    for dtype in case.dtypes:
        x, y = values("x", (LARGE,), dtype)[:400], values("y", (LARGE,), dtype)[:400]
        (expected,) = referenced(case, x, y)
        assert_same(case(x.clone(), y), [expected], f"{dtype}, 400 elements")
        for n in range(1, 68):
            begin = (5 * n) % 331
            ours = slice(begin, begin + n)
            actual = case(x.clone()[ours], y[ours])
            assert_same(actual, [expected[ours]], f"{dtype}, {n} elements from {begin}")
        apart = torch.stack([x, x], 1)[:, 0], torch.stack([y, y], 1)[:, 0]
        assert_same(case(*apart), [expected], f"{dtype}, every second element")


@each(ELEMENTWISE)
def test_threads_cut_a_large_tensor_anywhere(case: Elementwise) -> None:
    for dtype in case.dtypes:
        x, y = values("x", (LARGE,), dtype), values("y", (LARGE,), dtype)
        expected = referenced(case, x, y)
        torch.set_num_threads(2)
        assert_same(case(x.clone(), y), expected, f"{dtype}")


# ---- Batches, layouts, threads -------------------------------------------------------------------


def some_dtypes(case: Case) -> Sequence[torch.dtype]:
    """To a copy all values of one size are alike; that it is one is proven for each dtype above."""
    return case.dtypes[:3:2] if case in MOVES else case.dtypes  # float32 and float16


@each(BATCHED)
def test_a_sample_does_not_see_its_batch(case: Case) -> None:
    for dtype in some_dtypes(case):
        x, y = values("x", SHAPE, dtype), values("y", SHAPE, dtype)
        whole = case(x.clone(), y)
        for n, begin in ((1, 0), (1, 7), (1, 16), (2, 3), (3, 14), (5, 6)):
            part = slice(begin, begin + n)
            actual = case(x[part].clone(), y[part])
            assert_same(actual, [w[part] for w in whole], f"{dtype}, {n} samples from {begin}")
        if not dtype.is_floating_point:
            continue
        for position in (0, 1, 2):
            batch = [torch.full((3, *SHAPE[1:]), float("nan"), dtype=dtype) for _ in "xy"]
            batch[0][position], batch[1][position] = x[4], y[4]
            actual = [a[position : position + 1] for a in case(*batch)]
            assert_same(actual, [w[4:5] for w in whole], f"{dtype}, beside NaN at {position}")


@each(BATCHED)
def test_layouts(case: Case) -> None:
    for dtype in some_dtypes(case):
        x, y = values("x", SHAPE, dtype)[:3], values("y", SHAPE, dtype)[:3]
        expected = case(x.clone(), y)
        for (name, a), (_, b) in zip(arranged("x", dtype), arranged("y", dtype), strict=True):
            assert_same(case(fresh(a), b), expected, f"{dtype}, {name}")


@each(BATCHED)
def test_large_images_on_several_threads(case: Case) -> None:
    shape = (2, 67, 31, 17)  # 70618 elements: several threads' work
    copies = case in MOVES  # to them all values are alike
    for dtype in {torch.float32, *([] if copies else [torch.bfloat16])} & set(case.dtypes):
        x, y = values("x", shape, dtype), values("y", shape, dtype)
        torch.set_num_threads(1)
        expected = case(x.clone(), y)
        torch.set_num_threads(2)
        assert_same(case(x.clone(), y), expected, f"{dtype}, contiguous")
        x = x.clone(memory_format=torch.channels_last)
        assert_same(case(x, y), expected, f"{dtype}, channels_last")


# ---- Results without a batch ---------------------------------------------------------------------


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row[0])
@pytest.mark.parametrize("dtype", exact_cases.FLOATS)
def test_of_the_whole_tensor(row: exact_arithmetic.Whole, dtype: torch.dtype) -> None:
    name, run, reference = row
    op = getattr(torch.ops.aten, name)
    for n in (*range(6, 68), LARGE):
        for x in (values(n, (n,), dtype), values(n, (n,), dtype).nan_to_num(0, 1, -1).clamp(-1, 1)):
            with np.errstate(all="ignore"):
                expected = reference(arithmetic(x))
            for threads in (1, 2) if n > 999 else (1,):
                torch.set_num_threads(threads)
                result = run(op, x)
                result = result.item() if isinstance(result, Tensor) else result
                assert result == expected or (result != result and expected != expected), n


@pytest.mark.parametrize("name", CREATION)
@pytest.mark.parametrize("dtype", exact_cases.FLOATS)
def test_tensors_made_of_numbers(name: str, dtype: torch.dtype) -> None:
    run, value = CREATION[name]
    for n in (*range(1, 68), LARGE):
        result = run(getattr(torch.ops.aten, name), torch.ones(n, dtype=dtype))
        assert result.dtype == dtype
        if value is not None:
            arithmetic_type = np.float64 if dtype == torch.float64 else np.float32
            expected = reference_dtypes.rounded(
                np.full(result.shape, value, arithmetic_type), dtype
            )
            assert_same([result], [expected], f"{n} elements")


def test_eye_and_counting() -> None:
    aten = torch.ops.aten
    for dtype in (*exact_cases.FLOATS, torch.int64):
        for n in (1, 3, 17, 67):
            expected = torch.from_numpy(np.eye(n)).to(dtype)
            assert_same([aten.eye(n, dtype=dtype), aten.eye(n, n, dtype=dtype)], [expected] * 2)
        for arguments in [(n,) for n in range(1, 68)] + [(-67, 190, 3), (256, -256, -5)]:
            expected = torch.from_numpy(np.arange(*arguments)).to(dtype)
            assert_same([aten.arange(*arguments, dtype=dtype)], [expected], str(arguments))
    for name, numpys in (("tril_indices", np.tril_indices), ("triu_indices", np.triu_indices)):
        expected = torch.from_numpy(np.stack(numpys(9, 1, 7)))
        assert torch.equal(getattr(aten, name)(9, 7, 1), expected)
    largest = torch.arange(2**24 - 70001, 2**24, dtype=torch.float32)
    assert torch.equal(largest.long(), torch.arange(2**24 - 70001, 2**24))


# ---- Conversions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize(
    ("source", "target"), [(s, t) for s, to in exact_arithmetic.CONVERTED.items() for t in to]
)
def test_conversions_round_once_at_most(
    name: str, source: torch.dtype, target: torch.dtype
) -> None:
    n = LARGE
    x = values("x", (n,), source)
    if target == torch.float16 or target == torch.bfloat16:
        widened = x.to(torch.float32).numpy()
        expected = x if source == target else reference_dtypes.rounded(widened, target)
    else:
        numpy_type = torch.empty(0, dtype=target).numpy().dtype
        with np.errstate(all="ignore"):
            expected = torch.from_numpy(arithmetic(x).astype(numpy_type))
    run, op = CONVERSIONS[name], getattr(torch.ops.aten, name)
    assert_same([run(op, x, target)], [expected])
    for length in range(1, 68):
        part = slice(length, 2 * length)
        assert_same([run(op, x[part], target)], [expected[part]], f"{length} elements")
    apart = torch.stack([x[:99], x[:99]], 1)[:, 0]
    assert_same([run(op, apart, target)], [expected[:99]], "every second element")
