"""layer_norm, rms_norm, group_norm and instance_norm on CUDA have the bits of the CPU."""

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
    any_bits,
    assert_bits,
    expansions,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING, NARROW

floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


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
        if terms > 10_000:
            continue
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
    arguments = layer_arguments((3,), torch.float32)
    for rows, (name, args) in zip((65537, 3500), arguments.items(), strict=True):
        assert_as_cpu(device, name, normal("x", rows, 3), *args)


def test_empty(device: str) -> None:
    for name, args in layer_arguments((4,), torch.float32).items():
        assert run(device, name, torch.zeros(0, 4), *args).shape == (0, 4)
    for name, args in (
        ("group_norm", [2, None, None, 1e-5]),
        ("instance_norm", [None, None, 1e-5]),
    ):
        assert run(device, name, torch.zeros(0, 4, 3, 3), *args).shape == (0, 4, 3, 3)


# ---- group_norm, instance_norm -------------------------------------------------------------------

# [batch, channels, ...] and groups: one element; one group; groups of one channel; groups that
# share a block and leave some for the last; more channels than a tile is wide, in tiles of unequal
# width; more than 4096 channels; more than 4096 pixels, in groups of few and of many channels.
GROUPS = [
    ((3, 1, 1, 1), 1),
    ((2, 6), 2),
    ((70, 24), 24),
    ((2, 20, 3, 3), 20),
    ((3, 21, 5, 7), 7),
    ((2, 36, 4, 4), 2),
    ((1, 23, 9), 1),
    ((2, 10, 2, 3, 4), 5),
    ((1, 4100, 1, 2), 1),
    ((2, 8201), 1),
    ((2, 4, 67, 125), 2),
    ((1, 3, 70, 59), 3),
    ((1, 38, 65, 64), 2),
    ((1, 1, 33, 2100), 1),
]


def group_arguments(channels: int, groups: int, dtype: torch.dtype) -> dict[str, list[Any]]:
    affine = [normal(f"{name} {channels}", channels).to(dtype) for name in ("weight", "bias")]
    found: dict[str, list[Any]] = {"group_norm": [groups, *affine, 1e-5]}
    if groups == channels:
        found["instance_norm"] = [*affine, 1e-5]
    return found


def orders(x: Tensor) -> list[tuple[str, Tensor]]:
    """The two memory orders, where x has both."""
    return list(layouts(x))[: 2 if x.ndim in (4, 5) else 1]


@floating
@pytest.mark.parametrize(("shape", "groups"), GROUPS, ids=str)
def test_groups(device: str, dtype: torch.dtype, shape: tuple[int, ...], groups: int) -> None:
    x = normal(shape, *shape).to(dtype) + 3
    large = x.numel() > 50_000 or shape[1] > 4096
    inputs = [x] if large else [x, with_specials(x, shape, 1 / x.numel())]
    if not large:
        inputs += [any_bits(shape, shape, dtype), x * torch.finfo(dtype).smallest_normal]
    for name, args in group_arguments(shape[1], groups, dtype).items():
        for values in inputs:
            for label, view in orders(values):
                assert_as_cpu(device, name, view, *args, message=label)


@floating
def test_group_layouts(device: str, dtype: torch.dtype) -> None:
    for shape, groups in (((2, 6, 3, 5), 3), ((3, 4, 7), 4), ((2, 4, 2, 3, 2), 1)):
        for name, args in group_arguments(shape[1], groups, dtype).items():
            x = with_specials(normal("x", *shape).to(dtype), share=0.005)
            for label, view in (*layouts(x), *expansions(x)):
                assert_as_cpu(device, name, view, *args, message=label)


@floating
def test_group_parameters(device: str, dtype: torch.dtype) -> None:
    weight, bias = normal("weight", 12), normal("bias", 12)
    kinds = [dtype, torch.float32] if dtype in NARROW else [dtype]
    for _, x in orders(normal("x", 2, 12, 3, 5).to(dtype)):
        for w in (None, *(weight.to(kind) for kind in kinds)):
            for b in (None, *(bias.to(kind) for kind in kinds)):
                assert_as_cpu(device, "group_norm", x, 4, w, b, 1e-5)
                assert_as_cpu(device, "instance_norm", x, w, b, 1e-5)
        gaps = any_bits("weight", (24,), dtype)[1::2]
        assert_as_cpu(device, "group_norm", x, 3, gaps, gaps.flip(0), 0.0)


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_a_sample_alone_and_among_others(device: str, groups: int) -> None:
    args = group_arguments(12, groups, torch.float32)["group_norm"]
    for _, x in orders(with_specials(normal("x", 9, 12, 5, 7), share=0.001)):
        whole = run(device, "group_norm", x, *args)
        for start, size in ((0, 1), (4, 1), (8, 1), (2, 3), (1, 7)):
            part = run(device, "group_norm", x[start : start + size], *args)
            assert_bits(part, whole[start : start + size])


def test_many_samples(device: str) -> None:
    assert_as_cpu(device, "group_norm", normal("x", 65537, 2), 1, None, None, 1e-5)


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    """The number of blocks follows the device; the bits do not."""
    controls.device(multiprocessors=multiprocessors)
    for name, args in layer_arguments((5,), torch.float32).items():
        assert_as_cpu("emulated", name, normal("x", 1100, 5), *args)
    for dtype in FLOATING:
        for groups in (3, 24):
            for name, args in group_arguments(24, groups, dtype).items():
                for _, x in orders(normal("x", 9, 24, 3, 5).to(dtype)):
                    assert_as_cpu("emulated", name, x, *args)


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=5),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(
    shape: list[int], dtype: torch.dtype, choice: int, layout: int, seed: int
) -> None:
    operators().seed(seed)
    divisors = [n for n in range(1, shape[1] + 1) if shape[1] % n == 0]
    groups = divisors[choice % len(divisors)]
    normalized = tuple(shape[choice % len(shape) :])
    x = with_specials(normal(shape, *shape).to(dtype), shape, 0.01)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    operations = {**layer_arguments(normalized, dtype), **group_arguments(shape[1], groups, dtype)}
    for operator, args in operations.items():
        assert_as_cpu("emulated", operator, view, *args, message=f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    for rows, terms in ((2**22 + 3, 512), (2**19 + 3, 4096)):
        x = torch.empty(rows, terms, dtype=torch.float16, device="cuda").normal_()
        results = {
            "layer": (F.layer_norm(x, (terms,)), lambda v, n=terms: F.layer_norm(v, (n,))),
            "group": (F.group_norm(x[..., None], 4)[..., 0], lambda v: F.group_norm(v, 4)),
        }
        for name, (result, alone) in results.items():
            for start in (0, rows // 2, rows - 100):
                part = x[start : start + 100].cpu()
                assert_bits(result[start : start + 100], alone(part), name)
