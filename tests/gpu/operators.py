"""Stage "operators": every operator against the CPU's bits, in random calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv.testing import assert_bitwise_equal
from tests.gpu import draws, tiled
from tests.gpu.device import Device
from tests.gpu.record import Row
from tests.support import emulated


@dataclass(frozen=True)
class Amount:
    """How many calls of an operator in a dtype, and of how many elements at most."""

    calls: int
    most: int


AMOUNTS = {
    ("cuda", ""): Amount(30, 60_000),
    ("emulated", ""): Amount(1, 600),
    # For compute-sanitizer, under which a call takes a hundred times as long.
    ("cuda", "few"): Amount(3, 3_000),
    ("emulated", "few"): Amount(1, 100),
}


def describe(value: Any) -> str:
    return f"{tuple(value.shape)}/{value.stride()}" if isinstance(value, Tensor) else repr(value)


def compare(device: Device, amount: Amount, name: str, dtype: torch.dtype) -> Row:
    """Calls of one operator; what the first of those that differ was."""
    failed, first = 0, ""
    for number in range(amount.calls):
        draw = draws.Draw(f"{name} {dtype} {number}", dtype, amount.most)
        args = draws.operators()[name](draw)
        expected = emulated.run("cpu", name, *args)
        found = emulated.run(device.name, name, *args)
        try:
            assert_bitwise_equal(found, expected)
            if found.stride() != expected.stride():
                raise AssertionError(f"strides {found.stride()} != {expected.stride()}")
        except AssertionError as error:
            failed += 1
            first = first or f"call {number} of {', '.join(map(describe, args))}: {error}"
    return {"ok": failed == 0, "compared": amount.calls, "differed": failed, "first": first}


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    amount = AMOUNTS[device.name, variant]
    # compute-sanitizer has time for few and small calls, whose plans would be the smallest tile's.
    tiles = tiled.work(device) if variant == "few" else {}
    return tiles | {
        f"{name} {str(dtype).removeprefix('torch.')}": functools.partial(
            compare, device, amount, name, dtype
        )
        for name in draws.operators()
        for dtype in draws.DTYPES
    }
