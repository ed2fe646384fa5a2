"""What every operator must keep, stated once; a test file per operator family lists the cases.

    class TestLinear(ContractTests):
        CASES = [Case(...), ...]

inherits a test per property and case. The comparison is written out here and does not use
`bninv.testing`, which is itself under test.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bninv.testing import cpu_capabilities, cpu_capability
from tests.support import reference_dtypes

Operator = Callable[[Tensor], Tensor]

NAN = float("nan")
INF = float("inf")
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# How far bninv may be from stock, where both are right.
TOLERANCES = {
    torch.float32: 1e-4,
    torch.float64: 1e-12,
    torch.float16: 5e-3,
    torch.bfloat16: 4e-2,
}
GRAD_MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad": torch.enable_grad,
}


@dataclass(frozen=True)
class Case:
    """One operator with its parameters bound; the input's first dimension is the batch."""

    label: str
    shape: tuple[int, ...]
    run: Operator
    stock: Operator
    reference: Callable[[np.ndarray], np.ndarray] | None = None  # in the arithmetic type
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        dtype = "" if self.dtype == torch.float32 else f", {self.dtype}".replace("torch.", "")
        return f"{self.label}{dtype}"

    @property
    def input(self) -> Tensor:
        return normal(self.label, *self.shape, dtype=self.dtype)

    def expected(self, x: Tensor) -> Tensor:
        if self.reference is None:
            pytest.skip("the reference does not define this operator")
        values = self.reference(reference_dtypes.widened(x, x.dtype))
        return reference_dtypes.rounded(np.asarray(values), x.dtype)


# ---- Data ----------------------------------------------------------------------------------------


def generator(label: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(label).encode()))


def normal(label: object, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Seeded by its label, so that a case's data do not depend on which tests run.

    float64 numbers have all of their bits: sums and products of shorter ones would be exact.
    """
    drawn = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(generator(label).standard_normal(shape, drawn)).to(dtype)


def positive(label: object, *shape: int) -> Tensor:
    return normal(label, *shape).abs() + 0.1


def special_values(dtype: torch.dtype) -> Tensor:
    """NaN, infinities, signed zeros, subnormal and huge numbers."""
    info = torch.finfo(dtype)
    least, most = info.smallest_normal * info.eps, info.max
    values = (NAN, INF, -INF, 0.0, -0.0, least, -least, info.smallest_normal * 0.8, most, -most)
    return torch.tensor(values, dtype=dtype)


def with_specials(x: Tensor, label: object = 0, share: float = 0.05) -> Tensor:
    """Some elements replaced by special values of x's dtype."""
    rng = generator(label)
    values = special_values(x.dtype)
    chosen = values[torch.from_numpy(rng.integers(0, len(values), tuple(x.shape)))]
    return torch.where(torch.from_numpy(rng.random(tuple(x.shape)) < share), chosen, x)


def nan_filled(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, NAN, dtype=dtype)


def any_bits(label: object, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Every bit pattern alike: NaN, infinities, subnormal and huge numbers among them."""
    info = torch.iinfo(INTEGERS[dtype.itemsize])
    bits = generator(label).integers(info.min, info.max, tuple(shape), np.int64, endpoint=True)
    return torch.from_numpy(bits).to(INTEGERS[dtype.itemsize]).view(dtype)


def layouts(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Tensors of x's values under other strides; what lies between the elements is NaN."""
    x = x.contiguous()
    yield "contiguous", x
    if x.ndim == 4:
        yield "channels_last", x.contiguous(memory_format=torch.channels_last)
    if x.ndim == 5:
        yield "channels_last_3d", x.contiguous(memory_format=torch.channels_last_3d)
    yield (
        "reversed dimensions",
        x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim))),
    )
    for d in range(1, x.ndim):
        yield f"dimensions 0 and {d} swapped", x.transpose(0, d).contiguous().transpose(0, d)
    for d in range(2, x.ndim):
        yield f"dimensions 1 and {d} swapped", x.transpose(1, d).contiguous().transpose(1, d)
    every_second = nan_filled(*(2 * n + 1 for n in x.shape), dtype=x.dtype)[
        (slice(1, None, 2),) * x.ndim
    ]
    yield "every second element", every_second.copy_(x)
    for d in range(x.ndim):
        padded = list(x.shape)
        padded[d] += 3
        yield (
            f"dimension {d} sliced",
            nan_filled(*padded, dtype=x.dtype).narrow(d, 2, x.shape[d]).copy_(x),
        )
    if x.ndim == 4:
        wide = nan_filled(x.shape[0], x.shape[1] + 5, *x.shape[2:], dtype=x.dtype)
        wide = wide.contiguous(memory_format=torch.channels_last)
        yield "channels_last sliced", wide[:, 3 : 3 + x.shape[1]].copy_(x)
    for offset in (1, 3):  # aligned to an element and no better
        around = nan_filled(x.numel() + 8, dtype=x.dtype)
        yield f"storage offset {offset}", around[offset:][: x.numel()].view(x.shape).copy_(x)
    if x.dtype in (torch.float32, torch.float64):
        yield "lazily negated", torch.complex(torch.zeros_like(x), -x).conj().imag


def expansions(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Inputs with stride 0; their values are not x's."""
    for d in range(x.ndim):
        if x.shape[d] > 1:
            yield f"dimension {d} expanded", x.narrow(d, 0, 1).expand(x.shape)
    yield "one element", x.flatten()[:1].view((1,) * x.ndim).expand(x.shape)


# ---- Assertions ----------------------------------------------------------------------------------


def matrix_orders(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same batch of matrices by other strides: each dimension dense, or none."""
    for order in itertools.permutations(range(3)):
        back = sorted(range(3), key=order.__getitem__)
        yield f"memory as {order}", x.permute(order).contiguous().permute(back)
    wide = x.new_zeros(x.shape[0], x.shape[1], 2 * x.shape[2] + 3)
    wide[:, :, 1 : 2 * x.shape[2] : 2] = x
    yield "every second column", wide[:, :, 1 : 2 * x.shape[2] : 2]
    wider = x.new_zeros(x.shape[0], x.shape[1], x.shape[2] + 5)
    wider[:, :, 3:-2] = x
    yield "part of a row", wider[:, :, 3:-2]
    # A row is a multiple of a kilobyte, which tiles do not read in place.
    far = x.new_zeros(x.shape[0], x.shape[1], (x.shape[2] // 512 + 1) * 512)
    far[:, :, : x.shape[2]] = x
    yield "rows a power of two apart", far[:, :, : x.shape[2]]


def assert_bits(actual: Tensor, expected: Tensor, message: str = "") -> None:
    """Equal shapes, dtypes and bits; NaN equals any NaN."""
    assert actual.shape == expected.shape, f"{message}: {actual.shape} != {expected.shape}"
    assert actual.dtype == expected.dtype, f"{message}: {actual.dtype} != {expected.dtype}"
    a, b = (v.detach().resolve_neg().cpu().contiguous() for v in (actual, expected))
    integer = INTEGERS[a.element_size()]
    differ = (a.view(integer) != b.view(integer)) & ~(a.isnan() & b.isnan())
    if differ.any():
        first = tuple(differ.nonzero()[0].tolist())
        x, y = a[first].item(), b[first].item()
        pytest.fail(
            f"{message}: {int(differ.sum())} of {differ.numel()} elements differ in their bits, "
            f"first at {first}: {x!r} ({x.hex()}), expected {y!r} ({y.hex()})"
        )


def at_each_level(run: Callable[[], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The result at each instruction-set level that this machine has."""
    for level in cpu_capabilities():
        with cpu_capability(level):
            yield level, run()


def assert_equals_at_each_level(
    run: Callable[[], Tensor], expected: Tensor, message: str = ""
) -> None:
    for level, actual in at_each_level(run):
        assert_bits(actual, expected, f"{message} at level {level}")


def flags(x: Tensor) -> tuple[bool, ...]:
    formats = {4: [torch.channels_last], 5: [torch.channels_last_3d]}.get(x.ndim, [])
    return tuple(x.is_contiguous(memory_format=f) for f in [torch.contiguous_format, *formats])


# ---- Properties ----------------------------------------------------------------------------------


class ContractTests:
    """One test per property; a subclass names its cases."""

    CASES: Sequence[Case] = ()

    def test_equals_reference(self, case: Case) -> None:
        x = case.input
        assert_equals_at_each_level(lambda: case.run(x), case.expected(x))

    def test_special_values_equal_reference(self, case: Case) -> None:
        x = with_specials(case.input, case)
        assert_equals_at_each_level(lambda: case.run(x), case.expected(x))

    def test_levels_agree(self, case: Case) -> None:
        for x in (case.input, with_specials(case.input, case)):
            expected = case.run(x)
            assert_equals_at_each_level(lambda x=x, e=expected: case.run(x), expected)

    def test_is_close_to_stock(self, case: Case) -> None:
        actual, stock = case.run(case.input), case.stock(case.input)
        assert actual.shape == stock.shape
        tolerance = TOLERANCES[case.dtype]
        torch.testing.assert_close(actual, stock, rtol=tolerance, atol=tolerance, equal_nan=True)

    def test_batch_size_and_position(self, case: Case) -> None:
        x = with_specials(case.input, case, share=0.01)
        whole = case.run(x)
        for i in range(len(x)):
            assert_bits(case.run(x[i : i + 1]), whole[i : i + 1], f"sample {i} alone")
        assert_bits(case.run(x.flip(0)).flip(0), whole, "reversed batch")
        for copies in (2, 5, 17):
            repeated = case.run(x.repeat(copies, *[1] * (x.ndim - 1)))
            assert_bits(repeated, whole.repeat(copies, *[1] * (whole.ndim - 1)), f"{copies} times")
        empty = case.run(x[:0])
        assert empty.shape == (0, *whole.shape[1:])

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_neighbours(self, case: Case, value: float) -> None:
        x = case.input[:1]
        expected = case.run(x)
        filler = torch.full_like(x, value)
        for position in range(3):
            batch = [filler, filler, filler]
            batch[position] = x
            result = case.run(torch.cat(batch))
            assert_bits(result[position : position + 1], expected, f"position {position}")

    def test_input_layouts(self, case: Case) -> None:
        x = case.input
        expected = case.run(x)
        before = expected.clone()
        for name, view in layouts(x):
            values = view.clone()
            assert_equals_at_each_level(lambda v=view: case.run(v), expected, name)
            assert_bits(view, values, f"{name}: the input was written to")
        for name, view in expansions(x):
            copied = case.run(view.clone(memory_format=torch.contiguous_format))
            assert_equals_at_each_level(lambda v=view: case.run(v), copied, name)
        assert_bits(expected, before, "a later call wrote to an earlier result")

    def test_threads(self, case: Case) -> None:
        x = case.input
        x = x.repeat(3, *[1] * (x.ndim - 1))
        torch.set_num_threads(1)
        expected = case.run(x)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for name, view in (("contiguous", x), *list(layouts(x))[1:2]):
                assert_bits(case.run(view), expected, f"{threads} threads, {name}")

    def test_flush_to_zero(self, case: Case) -> None:
        least = torch.finfo(case.dtype).smallest_normal
        x = case.input * (least / 4)
        assert ((x != 0) & (x.abs() < least)).any()
        expected = dict(at_each_level(lambda: case.run(x)))
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormals to zero")
        try:
            flushed = dict(at_each_level(lambda: case.run(x)))
            still_on = (torch.full((1,), 2.0**-127) * 1).item() == 0
        finally:
            torch.set_flush_denormal(False)
        for level, result in expected.items():
            assert_bits(flushed[level], result, f"flush to zero, level {level}")
        assert still_on, "the caller's setting was not restored"

    def test_output_memory_format_is_torchs(self, case: Case) -> None:
        for name, x in list(layouts(case.input))[:2]:
            assert flags(case.run(x)) == flags(case.stock(x)), name


def panel(weight: Tensor) -> Tensor:
    """The weight's values in (r, s, c, o) order in memory: the kernels' own layout."""
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


def beside_nan(x: Tensor) -> Tensor:
    """The same values and strides in memory that is NaN before and behind them."""
    around = nan_filled(x.numel() + 128, dtype=x.dtype)
    return around.as_strided(x.shape, x.stride(), 64).copy_(x)


def batch_norm_parameters(channels: int, dtype: torch.dtype) -> list[Tensor]:
    """Mean, variance, weight and bias."""
    mean, weight, bias = (normal(name, channels) for name in ("mean", "weight", "bias"))
    return [v.to(dtype) for v in (mean, positive("var", channels), weight, bias)]


def conv2d_arguments(problem: Any, dtype: torch.dtype, bias: bool = True) -> list[Any]:
    """Behind the input, of torch.ops.bninv.conv2d."""
    (_, channels, *_), out, kernel, stride, padding, dilation, groups = problem
    weight = normal("weight", out, channels // groups, *kernel).to(dtype)
    shift = normal("bias", out).to(dtype) if bias else None
    return [weight, shift, list(stride), list(padding), list(dilation), groups]
