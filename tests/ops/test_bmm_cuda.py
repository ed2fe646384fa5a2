"""bmm and baddbmm on CUDA have the CPU's bits: emulated everywhere, on a GPU with `-m cuda`."""

from __future__ import annotations

import pytest
import torch

from tests.support.emulated import forced_plan, run
from tests.support.properties import any_bits, assert_bits, matrix_orders, nan_filled, normal
from tests.support.reference_dtypes import FLOATING

# batch, rows, terms, columns: fours and odd ones, several segments, more tiles than one.
SHAPES = [(1, 1, 1, 1), (3, 8, 12, 4), (2, 5, 300, 40), (3, 13, 20, 7), (2, 70, 16, 72)]
NARROW = (torch.float32, torch.float16, torch.bfloat16)
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


@floating
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_cpu(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    batch, rows, terms, columns = shape
    left = normal("left", batch, rows, terms).to(dtype)
    right = any_bits("right", (batch, terms, columns), dtype)
    expected = run("cpu", "bmm", left, right)
    rights = list(matrix_orders(right))
    for i, (left_name, a) in enumerate(matrix_orders(left)):
        right_name, b = rights[(i + 2) % len(rights)]
        name = f"left {left_name}, right {right_name}"
        assert_bits(run(device, "bmm", a, b), expected, name)
        assert_bits(run("cpu", "bmm", a, b), expected, name)


@pytest.mark.parametrize("tile", range(5))
@pytest.mark.parametrize("segments", [0, 1, 2])
def test_every_tile_and_split(device: str, tile: int, segments: int) -> None:
    """The last dimensions in fours, and the strides in fours of all but the samples."""
    for dtype in FLOATING:
        for columns in (36, 33):
            left, right = normal("l", 3, 9, 260).to(dtype), normal("r", 3, 260, columns).to(dtype)
            odd = normal("o", 3, 260 * columns + 1).to(dtype)[:, 1:].unflatten(1, (260, columns))
            with forced_plan(device, tile, segments):
                for b in (right, right[:1].expand(3, 260, columns), odd):
                    expected = run("cpu", "bmm", left, b)
                    assert_bits(run(device, "bmm", left, b), expected, str(dtype))


@floating
def test_baddbmm(device: str, dtype: torch.dtype) -> None:
    left, right = normal("l", 2, 5, 140).to(dtype), normal("r", 2, 140, 24).to(dtype)
    addends = normal("a", 2, 5, 24).to(dtype), normal("b", 24).to(dtype).expand(2, 5, 24)
    for segments in (0, 1):
        for beta, alpha in ((1.0, 1.0), (0.0, -0.3), (0.7, 1.3)):
            for addend in addends:
                args = (addend, left, right, beta, alpha)
                expected = run("cpu", "baddbmm", *args)
                with forced_plan(device, 4, segments):
                    assert_bits(run(device, "baddbmm", *args), expected, f"{beta}, {alpha}")


def test_sample_alone_and_in_a_batch(device: str) -> None:
    left, right = normal("l", 5, 33, 150), normal("r", 5, 150, 40)
    whole = run(device, "bmm", left, right)
    crowd = nan_filled(5, 33, 150), nan_filled(5, 150, 40)
    for at in (0, 2, 4):
        alone = run(device, "bmm", left[at : at + 1], right[at : at + 1])
        assert_bits(alone, whole[at : at + 1], "alone")
        crowd[0][at], crowd[1][at] = left[at], right[at]
        assert_bits(run(device, "bmm", *crowd)[at], whole[at], "beside NaN")


def test_nothing_to_do(device: str) -> None:
    result = run(device, "bmm", torch.zeros(2, 3, 0), torch.zeros(2, 0, 4))
    assert_bits(result, torch.zeros(2, 3, 4))
    addend = normal("a", 2, 3, 4)
    result = run(device, "baddbmm", addend, torch.zeros(2, 3, 0), torch.zeros(2, 0, 4), 2.0, 1.0)
    assert_bits(result, 2 * addend)
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 4, 0)):
        batch, rows, terms, columns = shape
        left, right = torch.ones(batch, rows, terms), torch.ones(batch, terms, columns)
        assert run(device, "bmm", left, right).shape == (batch, rows, columns)


# ---- R9 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", range(-1, 3))
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_on_tensor_cores(device: str, dtype: torch.dtype, tile: int) -> None:
    if device == "cuda" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("class H is that of 9.0 and up")
    for columns, terms in ((40, 136), (21, 35)):
        left = normal("l", 3, 9, terms).to(dtype)
        right = normal("r", 3, terms, columns).to(dtype)
        addend = normal("a", 3, 9, columns).to(dtype)
        for b in (right, right.mT.contiguous().mT, right[:1].expand(3, terms, columns)):
            with forced_plan(device, tile, 1 if tile > 0 else 0):
                for args in (("bmm", left, b), ("baddbmm", addend, left, b, 0.5, 2.0)):
                    expected = run("cpu", *args, "tensor-H")
                    assert_bits(run(device, *args, "tensor-H"), expected, f"{args[0]}, {tile}")
