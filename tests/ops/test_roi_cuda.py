"""Regions of images on CUDA have the bits of the CPU: emulated everywhere, on a GPU if any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support import reference_roi
from tests.support.boxes import OPERATORS, POSITIONED, corners, hostile_regions, of_images
from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import (
    INF,
    NAN,
    assert_bits,
    expansions,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import FLOATING

EVERY = {**OPERATORS, "roi_pool_argmax": OPERATORS["roi_pool"]}
floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)
named = pytest.mark.parametrize("name", EVERY)


@floating
@named
def test_regions(device: str, name: str, dtype: torch.dtype) -> None:
    x = with_specials(normal("x", 2, 24, 9, 11, dtype=dtype), share=0.01)
    boxes = of_images("boxes", 2, 5, 20, 25).to(dtype)
    last = torch.channels_last
    for options in EVERY[name]:
        assert_as_cpu(device, name, x, boxes, [2, 3], *options)
        assert_as_cpu(device, name, x.contiguous(memory_format=last), boxes, [2, 3], *options)


@floating
@named
def test_any_number_is_a_corner(device: str, name: str, dtype: torch.dtype) -> None:
    x, boxes = normal("x", 1, 6, 5, 4, dtype=dtype), hostile_regions(dtype)
    for options in EVERY[name][::3]:
        assert_as_cpu(device, name, x, boxes, [2, 3], *options)


@floating
@named
def test_a_region_of_no_image_is_nan(device: str, name: str, dtype: torch.dtype) -> None:
    """A CPU refuses it; a GPU reads nothing for it, and the others are as they were."""
    x, boxes = normal("x", 2, 12, 6, 7, dtype=dtype), of_images("boxes", 2, 4, 6, 7).to(dtype)
    options = EVERY[name][0]
    whole = run("cpu", name, x, boxes, [2, 3], *options)
    for value in (2.0, -1.0, 1e4, NAN, INF, -INF):
        wrong = boxes.clone()
        wrong[::2, 0] = value
        result = run(device, name, x, wrong, [2, 3], *options)
        assert_bits(result[1::2], whole[1::2])
        assert (result[::2] == -1 if name == "roi_pool_argmax" else result[::2].isnan()).all()
        assert_bits(result, reference_roi.run(name, x, wrong, [2, 3], *options))


@named
def test_layouts(device: str, name: str) -> None:
    x, boxes = normal("x", 2, 12, 5, 6), of_images("boxes", 2, 3, 5, 6)
    options = EVERY[name][-1]
    for label, view in (*layouts(x), *expansions(x)):
        assert_as_cpu(device, name, view, boxes, [2, 3], *options, message=label)
    for label, view in layouts(boxes):
        assert_as_cpu(device, name, x, view, [2, 3], *options, message=label)


@named
def test_nothing(device: str, name: str) -> None:
    x, boxes = torch.zeros(2, 6, 4, 4), of_images("boxes", 2, 2, 4, 4)
    options = EVERY[name][0]
    assert_as_cpu(device, name, x, boxes[:0], [2, 3], *options)
    assert_as_cpu(device, name, x[:0], boxes[:0], [2, 3], *options)
    assert_as_cpu(device, name, x[:, :0], boxes, [2, 3], *options)


@named
def test_many_points_and_bins(device: str, name: str) -> None:
    x = normal("x", 1, 7 if name not in POSITIONED else 2 * 7 * 40, 60, 70)
    boxes = torch.cat([torch.zeros(6, 1), corners("boxes", 6, 60, 70)], 1)
    boxes = torch.cat([boxes, torch.tensor([[0, -1e9, -50, 1e9, 90]])])
    for options in EVERY[name][::5]:
        assert_as_cpu(device, name, x, boxes, [7, 40], *options)
    if name not in POSITIONED:
        assert_as_cpu(device, name, x, boxes, [1, 1], *EVERY[name][0])


# ---- The emulation's own dimensions --------------------------------------------------------------


@given(
    st.sampled_from(list(EVERY)),
    st.tuples(*(st.integers(1, n) for n in (2, 5, 9, 9))),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.sampled_from(FLOATING),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_problem(
    name: str,
    shape: tuple[int, ...],
    bins: tuple[int, int],
    dtype: torch.dtype,
    layout: int,
    seed: int,
) -> None:
    operators().seed(seed)
    batch, channels, height, width = shape
    channels *= bins[0] * bins[1] if name in POSITIONED else 1
    x = normal(shape, batch, channels, height, width, dtype=dtype)
    views = list(layouts(with_specials(x, shape, share=0.01)))
    label, view = views[layout % len(views)]
    boxes = of_images(seed, batch, 3, height, width)
    boxes[:, 1:] = with_specials(boxes[:, 1:], seed, share=0.01)
    options: Any = EVERY[name][seed % len(EVERY[name])]
    assert_as_cpu(
        "emulated", name, view, boxes.to(dtype), list(bins), *options, message=f"{label}, {seed}"
    )
