"""softmax and log_softmax on CUDA have the bits of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import (
    INF,
    NAN,
    any_bits,
    assert_bits,
    expansions,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING

DTYPES = FLOATING
NAMES = ("softmax", "log_softmax")
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def assert_both_as_cpu(device: str, x: Tensor, dim: int, message: str = "") -> None:
    for name in NAMES:
        assert_as_cpu(device, name, x, dim, message=message)


# Along dense rows: each kernel's last length and the next, rows in shared memory and rows too long
# for it, segments that end early and more of them than warps.
LENGTHS = [1, 5, 31, 33, 128, 129, 512, 513, 1000, 1024, 1025, 4096, 4097, 8192, 8193, 33000]
# Along columns [outer, terms, inner], with a thread each or with a tile: fewer columns than a tile
# holds, tiles of unequal width, more than one segment and more of them than are summed at a time.
COLUMNS = [
    (1, 1, 2),
    (3, 21, 7),
    (2, 32, 5),
    (2, 33, 5),
    (2, 100, 17),
    (1, 50, 37),
    (1, 4100, 3),
    (1, 4097, 16),
    (1, 34000, 2),
    (2, 40, 800),
]


@dtypes
@pytest.mark.parametrize("terms", LENGTHS)
def test_rows(device: str, dtype: torch.dtype, terms: int) -> None:
    x = 4 * normal(terms, 3, terms).to(dtype)
    assert_both_as_cpu(device, x, 1)
    assert_both_as_cpu(device, with_specials(x, terms, 0.5 / terms), -1)
    assert_both_as_cpu(device, any_bits(terms, x.shape, dtype), 1)


@dtypes
@pytest.mark.parametrize("shape", COLUMNS, ids=str)
def test_columns(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = 4 * normal(shape, *shape).to(dtype)
    assert_both_as_cpu(device, x, 1)
    if x.numel() < 20_000:
        assert_both_as_cpu(device, with_specials(x, shape, 0.5 / shape[1]), 1)
        assert_both_as_cpu(device, any_bits(shape, x.shape, dtype), 1)


@dtypes
def test_layouts(device: str, dtype: torch.dtype) -> None:
    for shape in ((2, 3, 4, 5), (3, 40, 2)):
        x = with_specials(4 * normal(shape, *shape).to(dtype), shape, 0.01)
        for label, view in (*layouts(x), *expansions(x)):
            for dim in range(x.ndim):
                assert_both_as_cpu(device, view, dim, label)


@dtypes
def test_rows_of_one_value(device: str, dtype: torch.dtype) -> None:
    least = torch.finfo(dtype).smallest_normal / 4
    for value in (NAN, INF, -INF, 0.0, -0.0, least, -least, torch.finfo(dtype).max):
        for terms in (3, 40, 1030):
            x = torch.full((2, terms, 2), value, dtype=dtype)
            assert_both_as_cpu(device, x, 1)
            x[:, terms // 2] = -INF
            assert_both_as_cpu(device, x.transpose(1, 2).contiguous(), 2)


def test_subnormal_exponentials(device: str) -> None:
    """Sums and quotients of them: nothing is flushed."""
    x = torch.linspace(-110, -80, 900).view(3, 300)
    x[:, 0] = torch.tensor([0.0, -60.0, -80.0])
    assert_both_as_cpu(device, x, 1)
    assert_both_as_cpu(device, x.t().contiguous(), 0)


@pytest.mark.parametrize("terms", [3, 40, 1030])
def test_alone_and_in_a_batch(device: str, terms: int) -> None:
    for shape, dim in (((11, terms), 1), ((11, terms, 3), 1)):
        x = with_specials(normal(shape, *shape), share=0.002)
        for name in NAMES:
            whole = run(device, name, x, dim)
            for start, size in ((0, 1), (5, 1), (10, 1), (2, 3)):
                part = run(device, name, x[start : start + size], dim)
                assert_bits(part, whole[start : start + size])


def test_large_batch(device: str) -> None:
    """Above the limit of a grid's y and z; when emulated, more than its grid has threads."""
    x = normal("x", 65537, 3)
    assert_bits(run(device, "softmax", x, 1), run("cpu", "softmax", x, 1))
    x = normal("x", 65537, 2, 4)
    assert_bits(run(device, "softmax", x, 1), run("cpu", "softmax", x, 1))


def test_empty_and_scalar(device: str) -> None:
    for name in NAMES:
        assert run(device, name, torch.zeros(0, 4), 1).shape == (0, 4)
        assert run(device, name, torch.zeros(3, 0), 1).shape == (3, 0)
    assert_both_as_cpu(device, torch.tensor(2.0), 0)


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    """The number of blocks follows the device, and so does the kernel; the bits do not."""
    controls.device(multiprocessors=multiprocessors)
    for dtype in DTYPES:
        assert_both_as_cpu("emulated", normal("x", 1100, 5).to(dtype), 1)
        assert_both_as_cpu("emulated", normal("x", 3, 50, 300).to(dtype), 1)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(1, 200),
    st.sampled_from(DTYPES),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(
    shape: list[int], terms: int, dtype: torch.dtype, dim: int, layout: int, seed: int
) -> None:
    operators().seed(seed)
    dim %= len(shape)
    shape[dim] = terms
    x = with_specials(4 * normal(shape, *shape).to(dtype), shape, 0.01)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    assert_both_as_cpu("emulated", view, dim, f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    rows = 2**22 + 3
    for terms, dim in ((512, 1), (512, 0)):
        shape = (rows, terms) if dim == 1 else (terms, rows)
        x = torch.empty(shape, dtype=torch.float16, device="cuda").normal_()
        result = F.softmax(x, dim)
        for start in (0, rows // 2, rows - 100):
            part = x.narrow(1 - dim, start, 100).cpu()
            assert_bits(result.narrow(1 - dim, start, 100), F.softmax(part, dim))
