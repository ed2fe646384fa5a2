"""The taps of a deformable convolution on CUDA have the bits of the CPU: emulated, or on a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.emulated import operators, run
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import any_bits, assert_bits, layouts, normal, with_specials
from tests.support.reference_deform import seeded_offsets
from tests.support.reference_dtypes import FLOATING

floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)
# Channels and image, groups, kernel, stride, padding, dilation.
PROBLEMS = [
    ((6, 5, 4), 1, (3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1)),
    ((6, 7, 9), 3, (2, 1), (2, 3), (0, 2), (1, 2)),
    ((34, 3, 5), 2, (1, 3), (1, 2), (1, 1), (3, 1)),
]


def tensors(batch: int, problem: tuple, dtype: torch.dtype) -> tuple:
    shape, groups, *options = problem
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(shape[1:], *options, strict=True)
    ]
    taps = groups * options[0][0] * options[0][1]
    x = with_specials(normal(problem, batch, *shape, dtype=dtype), problem, share=0.02)
    offset = seeded_offsets((batch, 2 * taps, *out), batch, dtype)
    mask = with_specials(normal("mask", batch, taps, *out, dtype=dtype), share=0.02)
    return x, offset, mask, [list(option) for option in options]


@floating
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_taps(device: str, problem: tuple, dtype: torch.dtype) -> None:
    x, offset, mask, options = tensors(2, problem, dtype)
    bits = any_bits(problem, offset.shape, dtype)
    for offsets in (offset, bits, with_specials(offset, share=0.1)):
        for masks in (mask, None):
            assert_as_cpu(device, "deform_taps", x, offsets, masks, *options)


def test_layouts(device: str) -> None:
    x, offset, mask, options = tensors(2, PROBLEMS[0], torch.float32)
    for name, view in layouts(x):
        assert_as_cpu(device, "deform_taps", view, offset, mask, *options, message=name)
    for (name, offsets), (_, masks) in zip(layouts(offset), layouts(mask), strict=True):
        assert_as_cpu(device, "deform_taps", x, offsets, masks, *options, message=name)


def test_nothing_and_a_sample_alone(device: str) -> None:
    x, offset, mask, options = tensors(3, PROBLEMS[2], torch.float32)
    assert_as_cpu(device, "deform_taps", x[:0], offset[:0], mask[:0], *options)
    whole = run(device, "deform_taps", x, offset, mask, *options)
    for i in range(3):
        one = slice(i, i + 1)
        alone = run(device, "deform_taps", x[one], offset[one], mask[one], *options)
        assert_bits(alone, whole[one])


# ---- The emulation's own dimensions --------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 9), st.integers(5, 9), st.integers(5, 9)),
    st.integers(1, 2),
    st.tuples(*(st.tuples(st.integers(1, 3), st.integers(1, 3)) for _ in range(2))),
    st.sampled_from(FLOATING),
    st.integers(0, 2**32),
)
def test_any_problem(
    shape: tuple, groups: int, options: tuple, dtype: torch.dtype, seed: int
) -> None:
    operators().seed(seed)
    problem = ((groups * shape[0], *shape[1:]), groups, *options, (1, 0), (1, 2))
    x, offset, mask, numbers = tensors(2, problem, dtype)
    assert_as_cpu("emulated", "deform_taps", x, offset, mask, *numbers, message=f"seed {seed}")
