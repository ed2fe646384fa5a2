"""3-d pooling on CUDA has the bits of the CPU: emulated everywhere, on a GPU with `-m cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support.emulated import run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import any_bits, assert_bits, layouts, normal, with_specials
from tests.support.reference_dtypes import FLOATING

WINDOWS: list[tuple[list[int], list[int], list[int], bool]] = [
    ([1, 1, 1], [1, 1, 1], [0, 0, 0], False),
    ([2, 2, 2], [2, 2, 2], [0, 0, 0], False),
    ([3, 3, 3], [1, 2, 2], [1, 1, 1], True),
    ([3, 5, 4], [2, 1, 3], [1, 2, 0], False),
]
SHAPES = [(1, 1, 3, 6, 5), (2, 35, 4, 5, 6), (1, 72, 3, 5, 4)]
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def calls() -> Iterator[tuple[str, tuple[Any, ...]]]:
    for window in WINDOWS:
        for more in ((False, None), (True, None), (True, -3)):
            yield "avg_pool3d", (*window, *more)
        yield "max_pool3d", (*window[:3], [1, 1, 1], window[3])
    yield "max_pool3d", ([2, 2, 2], [1, 2, 1], [1, 1, 0], [2, 1, 3], False)
    for size in ([1, 1, 1], [2, 3, 1], [5, 4, 9]):
        yield "adaptive_avg_pool3d", (size,)
        yield "adaptive_max_pool3d", (size,)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


@floating
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_cpu(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = with_specials(normal("x", *shape, dtype=dtype), share=0.002)
    for name, args in calls():
        assert_as_cpu(device, name, channels_last(x), *args)


def test_layouts(device: str) -> None:
    for name, view in layouts(normal("x", 2, 5, 3, 4, 5)):
        for call in (*list(calls())[::7], ("adaptive_avg_pool3d", ([1, 2, 1],))):
            assert_as_cpu(device, call[0], view, *call[1], message=name)


@floating
def test_any_bits(device: str, dtype: torch.dtype) -> None:
    x = channels_last(any_bits("x", (2, 9, 4, 5, 4), dtype))
    for name, args in list(calls())[4:]:
        assert_as_cpu(device, name, x, *args)


def test_many_terms(device: str) -> None:
    """Several segments of 4096; sums of -0 are +0, its maximum is -0."""
    x = channels_last(normal("x", 1, 3, 9, 25, 20))
    zeros = channels_last(torch.full((2, 40, 3, 3, 3), -0.0))
    for name in ("adaptive_avg_pool3d", "adaptive_max_pool3d"):
        assert_as_cpu(device, name, x, [1, 1, 1])
        result = run(device, name, zeros, [1, 1, 1])
        assert result.signbit().all() if "max" in name else not result.signbit().any()


def test_sample_alone_and_in_a_batch(device: str) -> None:
    x = channels_last(normal("x", 9, 40, 2, 5, 4))
    for name, args in (*list(calls())[::5], ("adaptive_avg_pool3d", ([1, 1, 1],))):
        whole = run(device, name, x, *args)
        for at in (0, 4, 8):
            assert_bits(run(device, name, x[at : at + 1], *args), whole[at : at + 1], name)


def test_nothing_to_do(device: str) -> None:
    for shape in ((0, 3, 4, 4, 4), (2, 0, 4, 4, 4)):
        for name, args in calls():
            if "adaptive" in name or args[0] == [2, 2, 2]:
                assert_as_cpu(device, name, torch.zeros(shape), *args)


@pytest.mark.parametrize("multiprocessors", [1, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    controls.device(multiprocessors=multiprocessors)
    x = channels_last(normal("x", 2, 40, 3, 6, 5))
    for name, args in list(calls())[::3]:
        assert_as_cpu("emulated", name, x, *args)
