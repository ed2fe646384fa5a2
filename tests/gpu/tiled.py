"""Convolutions with every tile and split forced: what small random calls would never choose."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from bninv.testing import assert_bitwise_equal
from tests.gpu.device import Device
from tests.gpu.record import Row
from tests.support import emulated, properties

# Channels, outputs, kernel, stride, size: tails in every dimension; windows, points, and the single
# elements of three channels.
SHAPES = {
    "3x3": (64, 72, 3, 1, 9),
    "3x3 / 2": (40, 136, 3, 2, 11),
    "1x1": (200, 132, 1, 1, 7),
    "7x7 stem": (3, 64, 7, 2, 17),
}
DTYPES = (torch.float32, torch.bfloat16)
TILES = 5
SPLITS = (0, 1)  # segments of R1 a block does; 0: all


def arguments(label: str, dtype: torch.dtype) -> list[Any]:
    channels, out, kernel, stride, size = SHAPES[label]

    def normal(name: str, *shape: int) -> torch.Tensor:
        return properties.normal(f"{label} {name}", *shape, dtype=dtype)

    x = normal("x", 2, channels, size, size).to(memory_format=torch.channels_last)
    weight = normal("weight", out, channels, kernel, kernel) / 8
    weight = properties.panel(weight)  # as `patch` lays it out
    pad = kernel // 2
    out_size = (size + 2 * pad - kernel) // stride + 1
    residual = normal("residual", 2, out, out_size, out_size)
    residual = residual.to(memory_format=torch.channels_last)
    var = normal("var", out).abs() + 0.5
    norm = [normal("mean", out), var, normal("gamma", out), normal("beta", out), 1e-5]
    window = [[stride] * 2, [pad] * 2, [1, 1], 1]
    return [x, weight, None, *window, *norm, residual, "relu", 0.0]


def compare(device: Device, label: str, dtype: torch.dtype, tile: int, own: int) -> Row:
    args = arguments(label, dtype)
    expected = emulated.run("cpu", "conv2d_fused", *args)
    with emulated.forced_plan(device.name, tile, own):
        found = emulated.run(device.name, "conv2d_fused", *args)
    try:
        assert_bitwise_equal(found, expected)
    except AssertionError as error:
        return {"ok": False, "compared": 1, "differed": 1, "first": str(error)}
    return {"ok": True, "compared": 1, "differed": 0, "first": ""}


def work(device: Device) -> dict[str, Callable[[], Row]]:
    chosen = [("3x3", torch.float32, 0, 1)] if device.name == "emulated" else None
    return {
        f"conv2d {label} {str(dtype).removeprefix('torch.')}, tile {tile}, split {own}": (
            functools.partial(compare, device, label, dtype, tile, own)
        )
        for label, dtype, tile, own in chosen
        or [(s, d, t, o) for d in DTYPES for s in SHAPES for t in range(TILES) for o in SPLITS]
    }
