"""layer_norm, rms_norm, group_norm and instance_norm on CUDA have the bits of the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from emulated import operators, run
from hypothesis import given
from hypothesis import strategies as st
from properties import any_bits, assert_bits, expansions, layouts, normal, with_specials
from reference_dtypes import FLOATING, NARROW
from torch import Tensor

floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def assert_as_cpu(device: str, name: str, x: Tensor, *args: Any, message: str = "") -> Tensor:
    actual, expected = run(device, name, x, *args), run("cpu", name, x, *args)
    message = f"{name} of {tuple(x.shape)}, {x.dtype}, {args[:1]}: {message}"
    assert_bits(actual, expected, message)
    assert actual.stride() == expected.stride(), message
    return actual


@pytest.fixture
def controls() -> Iterator[Any]:
    library = operators()
    yield library
    library.device()


# ---- layer_norm, rms_norm ------------------------------------------------------------------------

# One term, less than a warp, a warp and one more, each kernel's last length and the next, rows in
# shared memory and rows too long for it, segments that end early and more of them than warps.
LENGTHS = [1, 5, 31, 32, 33, 256, 257, 512, 513, 1000, 1024, 1025, 4096, 4097, 8192, 16385, 33000]


def layer_arguments(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, list[Any]]:
    weight, bias = (normal(f"{name} {shape}", *shape).to(dtype) for name in ("weight", "bias"))
    return {
        "layer_norm": [list(shape), weight, bias, 1e-5],
        "rms_norm": [list(shape), weight, 1e-6],
    }


@floating
@pytest.mark.parametrize("terms", LENGTHS)
def test_rows(device: str, dtype: torch.dtype, terms: int) -> None:
    rows = 3 if terms > 1000 else 6
    for name, args in layer_arguments((terms,), dtype).items():
        x = normal(terms, rows, terms).to(dtype) + 3
        assert_as_cpu(device, name, x, *args)
        assert_as_cpu(device, name, with_specials(x, terms, 0.5 / terms), *args)
        assert_as_cpu(device, name, any_bits(terms, x.shape, dtype), *args)
        subnormal = x * torch.finfo(dtype).smallest_normal
        assert_as_cpu(device, name, subnormal, *args[:-1], 0.0)


@floating
def test_row_layouts(device: str, dtype: torch.dtype) -> None:
    for shape, count in (((2, 3, 4, 5), 1), ((2, 5, 3, 7), 3), ((3, 2, 2, 3, 4), 2)):
        for name, args in layer_arguments(shape[-count:], dtype).items():
            x = with_specials(normal("x", *shape).to(dtype), share=0.01)
            for label, view in (*layouts(x), *expansions(x)):
                assert_as_cpu(device, name, view, *args, message=label)
    # Long rows that are not aligned to 16 bytes, from the first on or from the second.
    for terms, offset in ((1101, 0), (1104, 1), (1104, 8)):
        x = normal("x", 3 * terms + offset).to(dtype)[offset:].view(3, terms)
        for name, args in layer_arguments((terms,), dtype).items():
            assert_as_cpu(device, name, x, *args, message=f"offset {offset}")


@floating
def test_row_parameters(device: str, dtype: torch.dtype) -> None:
    for terms in (37, 1100):
        x = normal("x", 3, terms).to(dtype)
        weight, bias = (normal(name, terms) for name in ("weight", "bias"))
        beside = [weight] if dtype == torch.float64 else [weight, weight.to(dtype)]
        for w in (None, *(w.to(dtype) if dtype == torch.float64 else w for w in beside)):
            assert_as_cpu(device, "rms_norm", x, [terms], w, 1e-5)
            for b in (None, bias.to(dtype), *([bias] if dtype in NARROW else [])):
                assert_as_cpu(device, "layer_norm", x, [terms], w, b, 1e-5)
        gaps = any_bits("weight", (2 * terms,), dtype)[1::2]
        assert_as_cpu(device, "layer_norm", x, [terms], gaps, gaps.flip(0), 0.0)


@pytest.mark.parametrize("terms", [3, 40, 1030])
def test_a_row_alone_and_among_others(device: str, terms: int) -> None:
    x = with_specials(normal("x", 11, terms), share=0.002)
    for name, args in layer_arguments((terms,), torch.float32).items():
        whole = run(device, name, x, *args)
        for row in range(11):
            assert_bits(run(device, name, x[row : row + 1], *args), whole[row : row + 1])


def test_many_rows(device: str) -> None:
    """Above the limit of a grid's y and z; on the emulated device, more than the grid has warps."""
    for name, args in layer_arguments((3,), torch.float32).items():
        assert_as_cpu(device, name, normal("x", 65537, 3), *args)


def test_empty(device: str) -> None:
    for name, args in layer_arguments((4,), torch.float32).items():
        assert run(device, name, torch.zeros(0, 4), *args).shape == (0, 4)
    for name, args in (("group_norm", [2, None, None, 1e-5]), ("instance_norm", [None, None, 1e-5])):
        assert run(device, name, torch.zeros(0, 4, 3, 3), *args).shape == (0, 4, 3, 3)
