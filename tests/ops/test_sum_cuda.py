"""sum and mean on CUDA have the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import (
    any_bits,
    assert_bits,
    expansions,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING

# One kernel takes rows of terms, a warp or part of one each; one the segments of few outputs; one
# columns, in blocks of 32 and in narrower ones. Sizes around 8, 32 and 4096, which they turn on.
REDUCTIONS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 1), (1,)),
    ((5, 2), (1,)),
    ((7, 3), (1,)),
    ((70, 17), (1,)),
    ((9, 31), (1,)),
    ((9, 33), (1,)),
    ((3, 256), (1,)),
    ((2, 299), (1,)),
    ((3, 1, 40), (1,)),
    ((3, 2, 300), (1,)),
    ((3, 5, 70), (1,)),
    ((2, 8, 33), (1,)),
    ((2, 9, 8), (1,)),
    ((2, 31, 7), (1,)),
    ((2, 64, 9), (1,)),
    ((2, 97, 65), (1,)),
    ((7, 65, 33), (1,)),
    ((3, 19, 7, 7), (2, 3)),
    ((3, 19, 7, 7), (1,)),
    ((2, 7, 5, 9), (1, 3)),
    ((2, 7, 5, 9), (0, 2)),
    ((2, 3, 4, 5, 6), (1, 4)),
    ((2, 3, 4, 5, 6), (2, 3, 4)),
]
# Several segments, the last one short: in turns of one warp, in several warps, in columns.
LONG: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 4096), (1,)),
    ((1, 4097), (1,)),
    ((40, 4100), (1,)),
    ((1, 16 * 4096 + 5), (1,)),
    ((1, 35 * 4096 - 1), (1,)),
    ((1, 4097, 9), (1,)),
    ((9, 8200, 33), (1,)),
    ((2, 3, 70, 70), (2, 3)),
]

floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def assert_both_as_cpu(
    device: str, x: Tensor, dim: Sequence[int], keepdim: bool = False, message: str = ""
) -> None:
    for name in ("sum", "mean"):
        assert_as_cpu(device, name, x, list(dim), keepdim, message=message)


@floating
@pytest.mark.parametrize(("shape", "dim"), REDUCTIONS, ids=str)
def test_equals_cpu(
    device: str, shape: tuple[int, ...], dim: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = normal("x", *shape, dtype=dtype)
    views = list(layouts(x))[:3]
    if dtype == torch.float32 and x.numel() < 10000:
        views = [*layouts(x), *expansions(x)]
    for name, view in views:
        assert_both_as_cpu(device, view, dim, message=name)
    assert_both_as_cpu(device, with_specials(x, share=0.01), dim, keepdim=True)
    assert_both_as_cpu(device, any_bits("x", shape, dtype), dim)


@floating
@pytest.mark.parametrize(("shape", "dim"), LONG, ids=str)
def test_segments(
    device: str, shape: tuple[int, ...], dim: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = normal("x", *shape, dtype=dtype)
    assert_both_as_cpu(device, x, dim)
    if x.ndim == 4:
        assert_both_as_cpu(device, x.contiguous(memory_format=torch.channels_last), dim)
        assert_both_as_cpu(device, x.transpose(2, 3).contiguous().transpose(2, 3), dim)
    if x.numel() < 50000:
        assert_both_as_cpu(device, torch.stack([x, x], -1)[..., 1], dim)


def test_all_dimensions(device: str) -> None:
    for shape in ((), (1,), (5,), (3, 4, 5), (2, 1, 3, 1, 2, 1, 2, 3)):
        x = normal("x", *shape)
        assert_both_as_cpu(device, x, [])
        for _, view in layouts(x) if x.ndim > 1 else ():
            assert_both_as_cpu(device, view, [], keepdim=True)


def test_sixteen_dimensions(device: str) -> None:
    """None of which continues the one before it in memory."""
    x = normal("x", *[2] * 16)
    for view in (x, x.permute(*reversed(range(16)))):
        assert_both_as_cpu(device, view, list(range(1, 16, 2)))
    assert_both_as_cpu(device, view, [])
    assert_both_as_cpu(device, view, [3])


def test_nothing(device: str) -> None:
    for shape, dim in (((3, 4, 0), [2]), ((0, 4), [1]), ((3, 0, 40), [1]), ((0, 3), [0])):
        assert_both_as_cpu(device, torch.ones(shape), dim)


def test_negative_zeros(device: str) -> None:
    """A lane starts at +0, so their sum is +0."""
    for shape in ((2, 1, 40), (2, 2, 40), (2, 33, 40), (1, 4097, 9)):
        for dim in (1, 2):
            result = run(device, "sum", torch.full(shape, -0.0), [dim], False)
            assert (result == 0).all() and not result.signbit().any()


def test_worked_sum(device: str) -> None:
    """With 2^24 first in its lane each 1 is lost, without it they are not."""
    for position, expected in ((0, 2**24), (32, 2**24), (64, 2**24 + 2)):
        x = torch.zeros(1, 1, 4, 24)
        x.view(-1)[[0, 32, 64]] = 1
        x.view(-1)[position] = 2**24
        for name, view in layouts(x.expand(1, 8, 4, 24)):
            result = run(device, "sum", view, [2, 3], False)
            assert (result == expected).all(), name


def test_sample_alone_and_in_a_batch(device: str) -> None:
    """Which kernel runs depends on how many outputs there are."""
    for shape, dim in (((97, 33, 5, 7), (2, 3)), ((97, 33, 5, 7), (1,)), ((17, 4200), (1,))):
        for _, view in list(layouts(normal("x", *shape)))[:2]:
            whole = run(device, "mean", view, list(dim), False)
            for size in (1, 2, 5):
                for start in (0, 7, len(view) - size):
                    part = run(device, "mean", view[start : start + size], list(dim), False)
                    assert_bits(part, whole[start : start + size])


def test_large_batch(device: str) -> None:
    for shape, dim in (((65537, 3), 1), ((65537, 3, 1), 1), ((65537, 3), 0), ((65537, 9), 0)):
        assert_both_as_cpu(device, normal("x", *shape), [dim])


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    controls.device(multiprocessors=multiprocessors)
    for dtype in FLOATING:
        for shape, dim in (((3, 49, 70), (1,)), ((9, 4099), (1,)), ((2, 5000, 40), (1,))):
            assert_both_as_cpu("emulated", normal("x", *shape, dtype=dtype), dim)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sets(st.integers(0, 3), min_size=1),
    st.sampled_from(FLOATING),
    st.booleans(),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(
    shape: list[int], dims: set[int], dtype: torch.dtype, keepdim: bool, layout: int, seed: int
) -> None:
    operators().seed(seed)
    while torch.Size(shape).numel() > 30000:
        shape = [max(n // 2, 1) for n in shape]
    dim = sorted({min(d, len(shape) - 1) for d in dims})
    views = list(layouts(with_specials(normal(shape, *shape, dtype=dtype), shape, share=0.001)))
    name, view = views[layout % len(views)]
    assert_both_as_cpu("emulated", view, dim, keepdim, f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    x = torch.empty(2**31 + 2**12, dtype=torch.float16, device="cuda").normal_()
    for view, dim in ((x.view(-1, 32), 1), (x.view(-1, 2, 16), 1), (x.view(2, -1, 8), 0)):
        result = torch.ops.bninv.mean(view, [dim], False)
        kept = 1 if dim == 0 else 0
        for start in (0, view.shape[kept] // 2, view.shape[kept] - 100):
            part = view.narrow(kept, start, 100).cpu()
            assert_bits(result.narrow(0, start, 100), run("cpu", "mean", part, [dim], False))
