"""The caller's floating-point control changes no bit, nor does it where workers inherited it."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import bninv.functional as F
from tests.support.properties import assert_bits, at_each_level, normal, positive

TINY = 2.0**-128  # among the subnormal numbers


def operators() -> dict[str, Callable[[], Tensor]]:
    """Each large enough to be worth several threads, with subnormal intermediates."""
    x = normal("x", 6, 40, 37, 41) * TINY
    last = x.to(memory_format=torch.channels_last)
    weight, depthwise = normal("w", 24, 40, 1, 1), normal("w", 40, 1, 3, 3)
    rows, matrix = normal("rows", 700, 300) * TINY, normal("matrix", 200, 300)
    mean, scale, bias = normal("mean", 40) * TINY, positive("var", 40), normal("b", 40) * TINY
    calls: dict[str, Callable[[], Tensor]] = {
        "linear": lambda: F.linear(rows, matrix),
        "sum": lambda: F.sum(rows, 1),
        "layer_norm": lambda: F.layer_norm(rows, 300, eps=0.0),
        "rms_norm": lambda: F.rms_norm(rows, 300, eps=0.0),
        "softmax": lambda: F.softmax(rows * 2.0**130, 1),
        "softmax of columns": lambda: F.softmax(rows * 2.0**130, 0),
        "log_softmax": lambda: F.log_softmax(rows * 2.0**130, 1),
        "mean over channels": lambda: F.mean(x, 1),
    }
    for name, v in (("contiguous", x), ("channels_last", last)):
        calls |= {
            f"conv2d, {name}": lambda v=v: F.conv2d(v, weight),
            f"depthwise conv2d, {name}": lambda v=v: F.conv2d(v, depthwise, groups=40),
            f"batch_norm, {name}": lambda v=v: F.batch_norm(v, mean, scale, scale, bias),
            f"group_norm, {name}": lambda v=v: F.group_norm(v, 8, scale, bias, 0.0),
            f"instance_norm, {name}": lambda v=v: F.instance_norm(v, None, None, scale, bias),
            f"avg_pool2d, {name}": lambda v=v: F.avg_pool2d(v, 3),
            f"max_pool2d, {name}": lambda v=v: F.max_pool2d(v, 3),
            f"mean, {name}": lambda v=v: F.mean(v, (2, 3)),
            f"hardswish, {name}": lambda v=v: F.hardswish(v),
            f"gelu, {name}": lambda v=v: F.gelu(v),
        }
    return calls


OPERATORS = operators()


@contextmanager
def flush_to_zero() -> Iterator[None]:
    assert torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding_upward() -> Iterator[None]:
    libm = ctypes.CDLL(None)
    before = libm.fegetround()
    assert libm.fesetround(0x800) == 0  # FE_UPWARD on x86
    try:
        yield
    finally:
        libm.fesetround(before)


STATES = {
    "flush to zero": (flush_to_zero, lambda: (torch.full((2**20,), TINY) * 1 == 0).all()),
    "rounding upward": (rounding_upward, lambda: (torch.ones(2**20) + 1e-20 > 1).all()),
}


def in_a_fresh_thread(function: Callable[[], None]) -> None:
    """A thread's own workers start when it first needs them, with its floating-point state."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets x86's control register")
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.exhaustive), 3])
@pytest.mark.parametrize("state", STATES)
def test_state_changes_no_bit(state: str, threads: int) -> None:
    expected = {name: dict(at_each_level(call)) for name, call in OPERATORS.items()}
    enter, stock_is_affected = STATES[state]
    actual: dict[str, dict[str, Tensor]] = {}

    def run() -> None:
        torch.set_num_threads(threads)
        with enter():
            assert stock_is_affected(), "the state is not what this test believes"
            for name, call in OPERATORS.items():
                actual[name] = dict(at_each_level(call))
                assert stock_is_affected(), f"{name} did not restore the caller's state"

    in_a_fresh_thread(run)
    for name, results in expected.items():
        for level, result in results.items():
            assert_bits(actual[name][level], result, f"{name}, level {level}, {state}")
