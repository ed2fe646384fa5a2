"""Elementwise functions on CUDA have the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bninv.operators import unary
from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import any_bits, assert_bits, expansions, layouts, normal
from tests.support.reference_dtypes import FLOATING, NARROW

OPTIONS = {
    "leaky_relu": (0.3,),
    "gelu": ("none",),
    "softplus": (0.7, 11.0),
    "elu": (1.3, 0.7, 1.1),
}
FUNCTIONS: dict[str, tuple[str, tuple]] = {
    **{op.name: (op.name, OPTIONS.get(op.name, ())) for op in unary.OPERATORS},
    "gelu, tanh": ("gelu", ("tanh",)),
}
CASES = [
    pytest.param(label, dtype, id=f"{label}, {dtype}") for label in FUNCTIONS for dtype in FLOATING
]
functions = pytest.mark.parametrize("label", FUNCTIONS)
cases = pytest.mark.parametrize(("label", "dtype"), CASES)
# A block takes 2048 elements: one element, one less and one more than a block, a last block that is
# nearly empty, more blocks than one wave.
SIZES = [1, 7, 2047, 2048, 2049, 3 * 2048 + 5, 20 * 2048 - 1]


def assert_equals_cpu(device: str, label: str, x: Tensor, message: str = "") -> None:
    """Out of place and in place, bits and strides."""
    name, options = FUNCTIONS[label]
    expected = assert_as_cpu(device, name, x, *options, message=message)
    if all(s > 0 or n == 1 for s, n in zip(x.stride(), x.shape, strict=True)):
        in_place = run(device, f"{name}_", x, *options)
        assert in_place.stride() == run("cpu", f"{name}_", x, *options).stride(), message
        assert_bits(in_place, expected, f"{message}, in place")


@cases
def test_equals_cpu(device: str, label: str, dtype: torch.dtype) -> None:
    for size in SIZES:
        assert_equals_cpu(device, label, any_bits("x", (size,), dtype), f"{size} elements")
    assert_equals_cpu(device, label, normal("x", 3000, dtype=dtype) * 4)


@cases
def test_layouts(device: str, label: str, dtype: torch.dtype) -> None:
    x = normal("x", 3, 19, 7, 11, dtype=dtype) * 4
    for name, view in (*layouts(x), *expansions(x)):
        assert_equals_cpu(device, label, view, name)


@functions
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_all_patterns(device: str, label: str, dtype: torch.dtype) -> None:
    patterns = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    assert_equals_cpu(device, label, patterns)


@functions
def test_floats_of_every_exponent(device: str, label: str) -> None:
    patterns = torch.arange(-(2**31), 2**31, 104729).to(torch.int32).view(torch.float32)
    assert_equals_cpu(device, label, patterns)


@pytest.mark.parametrize("slope", [0.0, -0.3, 1e-42, float("inf"), float("nan")])
def test_negative_slope(device: str, slope: float) -> None:
    for dtype in FLOATING:
        x = any_bits("x", (999,), dtype)
        expected = run("cpu", "leaky_relu", x, slope)
        assert_bits(run(device, "leaky_relu", x, slope), expected)


def test_alignment(device: str) -> None:
    """Of input and output alone, and of neither."""
    for dtype in FLOATING:
        for offset in range(1, 16 // dtype.itemsize):
            x = any_bits("x", (5000 + offset,), dtype)[offset:]
            for label in ("relu", "hardswish"):
                assert_equals_cpu(device, label, x, f"{dtype}, offset {offset}")


@functions
def test_sample_alone_and_in_a_batch(device: str, label: str) -> None:
    name, options = FUNCTIONS[label]
    x = normal("x", 17, 12, 9, 5) * 4
    whole = run(device, name, x, *options)
    for size in (1, 2, 5):
        for start in (0, 7, 17 - size):
            part = run(device, name, x[start : start + size], *options)
            assert_bits(part, whole[start : start + size])


def test_large_batch(device: str) -> None:
    assert_equals_cpu(device, "silu", normal("x", 65537, 3) * 4)


def test_empty(device: str) -> None:
    for label in FUNCTIONS:
        assert_equals_cpu(device, label, torch.zeros(0, 5))


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    controls.device(multiprocessors=multiprocessors)
    for dtype in FLOATING:
        assert_equals_cpu("emulated", "hardswish", any_bits("x", (9 * 2048 + 3,), dtype))


def test_in_place_writes_nothing_else() -> None:
    operators()
    for dtype in FLOATING:
        for offset in (0, 3, 16):
            whole = any_bits("x", (4200,), dtype)
            before, part = whole.clone(), whole[offset : offset + 4111]
            expected = run("cpu", "hardswish", part.clone())
            torch.ops.bninv_emulated.hardswish_(part)
            assert_bits(part, expected)
            part.copy_(before[offset : offset + 4111])
            assert_bits(whole, before)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.sampled_from([case.values for case in CASES]),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(shape: list[int], case: tuple, layout: int, seed: int) -> None:
    label, dtype = case
    operators().seed(seed)
    views = list(layouts(any_bits(shape, shape, dtype)))
    name, view = views[layout % len(views)]
    assert_equals_cpu("emulated", label, view, f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    x = torch.empty(2**31 + 3001, dtype=torch.float16, device="cuda").normal_()
    for offset in (0, 1):
        result = torch.ops.bninv.silu(x[offset:])
        for start in (0, 2**30, len(x) - 3000):
            part = x[offset:][start : start + 1000]
            assert_bits(result[start : start + 1000], run("cpu", "silu", part.cpu()))
