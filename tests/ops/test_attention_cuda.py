"""scaled_dot_product_attention on CUDA has the bits of the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.attention_cases import DTYPES, SIZES, masks, operands
from tests.support.emulated import operators
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import NAN, assert_bits, normal, with_specials

NAME = "scaled_dot_product_attention"
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def assert_same(device: str, q: Tensor, *args: object, message: str = "") -> Tensor:
    return assert_as_cpu(device, NAME, q, *args, message=message)


@dtypes
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_masks_and_sizes(device: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    q, k, v = operands(*sizes, dtype=dtype)
    for mask in masks(sizes, dtype)[:4]:
        assert_same(device, q, k, v, mask)
    assert_same(device, q, k, v, None, True)


@dtypes
def test_strides(device: str, dtype: torch.dtype) -> None:
    """Copies of four elements, and of one."""
    for terms in (8, 6):
        x = normal("x", 2, 70, 3, 2, terms).to(dtype)
        q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
        assert_same(device, q, k, v)
        assert_same(device, q[..., 1:], k[..., 1:], v)
        assert_same(device, q, k[:, :1].expand_as(k), v.transpose(2, 3).contiguous().mT)
    q, k, v = operands(1, 6, 19, 140, 12, 20, dtype=dtype, groups=2)
    assert_same(device, q, k, v, None, False, 0.7, True)


def test_excluded_values(device: str) -> None:
    q, k, v = operands(1, 2, 70, 150, 8, 40)
    kept = normal("kept", 1, 1, 70, 150) > 0
    kept[..., 140] = False
    expected = assert_same(device, q, k, v, kept)
    v[:, :, 140] = NAN
    assert_bits(assert_same(device, q, k, v, kept), expected)
    assert_same(device, q, k, v, torch.zeros(1, 1, 70, 150, dtype=torch.bool))
    assert_same(device, q, k[:, :, :0], v[:, :, :0])


@given(
    st.tuples(*map(st.integers, (1, 1, 1, 0, 1, 1), (2, 2, 70, 200, 40, 70))),
    st.sampled_from(DTYPES),
    st.sampled_from((0, 1, 2, 3, 4)),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=15)
def test_any_size(
    sizes: tuple[int, ...], dtype: torch.dtype, which: int, special: bool, seed: int
) -> None:
    operators().seed(seed)
    q, k, v = operands(*sizes, dtype=dtype)
    if special:
        q, k, v = (with_specials(t, i, 2 / max(t.numel(), 1)) for i, t in enumerate((q, k, v)))
    mask = None if which == 4 else masks(sizes, dtype)[which]
    assert_same("emulated", q, k, v, mask, which == 4)
