"""linear on CUDA has the bits of the CPU: emulated everywhere, on a GPU with `-m cuda`."""

from __future__ import annotations

import pytest
import torch

from bninv._arguments import ACTIVATIONS
from tests.support.emulated import forced_plan, run
from tests.support.properties import any_bits, assert_bits, layouts, nan_filled, normal
from tests.support.reference_dtypes import FLOATING, activated

# Input, output features: fours and odd ones, several segments, more tiles than one.
SHAPES = [
    ((1, 1), 1),
    ((3, 8), 12),
    ((5, 300), 40),
    ((130, 20), 72),
    ((2, 7, 129), 33),
    ((4, 2, 3, 64), 130),
    ((7,), 10),
    ((70, 259), 66),
]
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


@floating
@pytest.mark.parametrize(("shape", "columns"), SHAPES, ids=str)
def test_equals_cpu(device: str, dtype: torch.dtype, shape: tuple[int, ...], columns: int) -> None:
    weight = normal("weight", columns, shape[-1]).to(dtype)
    bias = normal("bias", columns).to(dtype)
    panels, shifts = (weight, weight.T.contiguous().T), (bias, None)
    for k, x in enumerate((normal("x", *shape).to(dtype), any_bits("x", shape, dtype))):
        expected = [run("cpu", "linear", x, weight, shift) for shift in shifts]
        # Each layout with both orders of the weight, and with a bias and without.
        for i, (name, view) in enumerate(layouts(x)):
            p, s = (i + k) % 2, (i // 2 + k) % 2
            assert_bits(run("cpu", "linear", view, panels[p], shifts[s]), expected[s], name)
            assert_bits(run(device, "linear", view, panels[p], shifts[s]), expected[s], name)


@pytest.mark.parametrize("tile", range(5))
@pytest.mark.parametrize("segments", [0, 1, 3])
def test_every_tile_and_split(device: str, tile: int, segments: int) -> None:
    for dtype in FLOATING:
        for shape, columns in SHAPES[2:4]:
            x, weight = normal("x", *shape).to(dtype), normal("w", columns, shape[-1]).to(dtype)
            expected = run("cpu", "linear", x, weight, None)
            with forced_plan(device, tile, segments):
                assert_bits(run(device, "linear", x, weight, None), expected, str(dtype))


@floating
def test_fused_is_the_separate_operators(device: str, dtype: torch.dtype) -> None:
    x, weight = normal("x", 5, 140).to(dtype), normal("w", 24, 140).to(dtype)
    bias, residual = normal("b", 24).to(dtype), normal("r", 5, 24).to(dtype)
    y = run("cpu", "linear", x, weight, bias)
    for activation in ACTIVATIONS[1:]:
        for addend in (None, residual):
            expected = activated(activation, y if addend is None else y + addend)
            for where in ("cpu", device):
                found = run(where, "linear_fused", x, weight, bias, addend, activation)
                assert_bits(found, expected, f"{where}, {activation}")


def test_sample_alone_and_in_a_batch(device: str) -> None:
    x, weight, bias = normal("x", 70, 300), normal("w", 40, 300), normal("b", 40)
    whole = run(device, "linear", x, weight, bias)
    crowd = nan_filled(70, 300)
    for at in (0, 33, 69):
        assert_bits(run(device, "linear", x[at : at + 1], weight, bias), whole[at : at + 1])
        crowd[at] = x[at]
        assert_bits(run(device, "linear", crowd, weight, bias)[at], whole[at], "beside NaN")


def test_nothing_to_do(device: str) -> None:
    bias = normal("bias", 4)
    result = run(device, "linear", torch.zeros(3, 0), torch.zeros(4, 0), bias)
    assert_bits(result, bias.expand(3, 4).contiguous())
    assert run(device, "linear", torch.zeros(0, 3), torch.zeros(4, 3), None).shape == (0, 4)
