"""scaled_dot_product_attention: R7."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv.operators.attention import scaled_dot_product_attention as attention
from tests.support import reference_attention as reference
from tests.support.attention_cases import DTYPES, SIZES, masks, operands
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    normal,
    with_specials,
)
from tests.support.reference_dtypes import NARROW

stock = torch.nn.functional.scaled_dot_product_attention
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def self_attention_case(heads: int, length: int, terms: int, **options: Any) -> Case:
    """Query, key and value in one tensor, as a projection gives them."""

    def expected(x: np.ndarray) -> np.ndarray:
        parts = (torch.from_numpy(x[:, i].copy()) for i in range(3))
        return reference.on_tensors(*parts, **options).numpy()

    return Case(
        f"{heads} heads of {length} x {terms}, {sorted(options)}",
        (3, 3, heads, length, terms),
        run=lambda x: attention(*x.unbind(1), **options),
        stock=lambda x: stock(*x.unbind(1), **options),
        reference=expected,
    )


class TestAttention(ContractTests):
    CASES = [
        self_attention_case(2, 49, 32),
        self_attention_case(1, 130, 20, is_causal=True),
        self_attention_case(2, 17, 5, scale=0.3, attn_mask=normal("bias", 2, 17, 17)),
        self_attention_case(1, 9, 130),
    ]


@dtypes
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_masks_and_sizes(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    if dtype == torch.float64:  # slow in NumPy
        sizes = tuple(min(size, most) for size, most in zip(sizes, (1, 2, 5, 150, 140, 40)))
    q, k, v = operands(*sizes, dtype=dtype)
    for mask in masks(sizes, dtype):
        expected = reference.on_tensors(q, k, v, mask)
        assert_equals_at_each_level(lambda m=mask: attention(q, k, v, m), expected, str(mask))
    expected = reference.on_tensors(q, k, v, is_causal=True)
    assert_equals_at_each_level(lambda: attention(q, k, v, is_causal=True), expected, "causal")


@dtypes
def test_shared_heads(dtype: torch.dtype) -> None:
    q, k, v = operands(2, 6, 19, 140, 12, 20, dtype=dtype, groups=2)
    expected = reference.on_tensors(q, k, v)
    assert_equals_at_each_level(lambda: attention(q, k, v, enable_gqa=True), expected)
    torch.testing.assert_close(
        expected, stock(q, k, v, enable_gqa=True), rtol=2e-2, atol=2e-2 if dtype in NARROW else 1e-5
    )
    with pytest.raises(ValueError, match=r"\[2, 6, 19, 12\], \[2, 2, 140, 12\].* may broadcast"):
        attention(q, k, v)


@given(
    st.tuples(*map(st.integers, (1, 1, 1, 0, 1, 1), (2, 2, 70, 300, 40, 70))),
    st.sampled_from([torch.float32, *NARROW]),  # binary64 is slow in NumPy
    st.integers(0, 6),
    st.booleans(),
)
@settings(max_examples=25)
def test_any_size(sizes: tuple[int, ...], dtype: torch.dtype, which: int, special: bool) -> None:
    q, k, v = operands(*sizes, dtype=dtype)
    if special:
        q, k, v = (with_specials(t, i, 2 / max(t.numel(), 1)) for i, t in enumerate((q, k, v)))
    causal = which == 6
    mask = None if causal else masks(sizes, dtype)[which]
    expected = reference.on_tensors(q, k, v, mask, causal)
    assert_equals_at_each_level(lambda: attention(q, k, v, mask, is_causal=causal), expected)


# ---- What takes no part --------------------------------------------------------------------------


def test_no_key_is_zero() -> None:
    q, k, v = operands(1, 2, 5, 200, 8, 9)
    kept = torch.ones(5, 200, dtype=torch.bool)
    kept[1] = False  # of all blocks
    kept[2, :128] = False  # of the first
    kept[3, 128:] = False  # of the last
    result = attention(q, k, v, kept)
    assert_bits(result, reference.on_tensors(q, k, v, kept))
    assert_bits(result[:, :, 1], torch.zeros(1, 2, 9))
    added = torch.zeros(5, 200).masked_fill(~kept, -INF)
    assert_bits(attention(q, k, v, added), result, "an added -inf excludes as well")
    assert_bits(attention(q[:, :, 2:3], k[:, :, 128:], v[:, :, 128:]), result[:, :, 2:3])
    empty = attention(q, k[:, :, :0], v[:, :, :0])
    assert_bits(empty, torch.zeros(1, 2, 5, 9))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_an_excluded_key_has_no_effect(value: float) -> None:
    q, k, v = operands(1, 1, 6, 150, 8, 40)
    kept = normal("kept", 6, 150) > 0
    kept[:, 140] = False
    expected = attention(q, k, v, kept)
    k[:, :, 140], v[:, :, 140] = value, value
    assert_equals_at_each_level(lambda: attention(q, k, v, kept), expected)
    # One whose weight is zero for being small takes part.
    q, k, v = operands(1, 1, 1, 3, 4, 2)
    k[0, 0, 0] = -1e4 * q[0, 0, 0]
    v[0, 0, 0] = value
    assert attention(q, k, v).isnan().all()


def test_causal_queries_see_no_later_key() -> None:
    q, k, v = operands(1, 2, 140, 300, 8, 9)
    whole = attention(q, k, v, is_causal=True)
    for i in (0, 1, 63, 127, 128, 139):
        one = attention(q[:, :, i : i + 1], k[:, :, : i + 1], v[:, :, : i + 1])
        assert_bits(whole[:, :, i : i + 1], one, f"query {i}")


def test_a_nan_score_makes_its_row_nan() -> None:
    q, k, v = operands(1, 1, 4, 260, 8, 9)
    for j in (0, 127, 128, 259):
        added = torch.zeros(4, 260)
        added[1, j], added[2, j] = NAN, INF
        added[3] = -INF
        added[3, j] = NAN
        result = attention(q, k, v, added)
        assert_bits(result, reference.on_tensors(q, k, v, added))
        assert result[0, 0, 1:].isnan().all() and result[0, 0, 0].isfinite().all()


# ---- Arguments -----------------------------------------------------------------------------------


def test_leading_dimensions() -> None:
    q, k, v = operands(2, 3, 5, 7, 8, 9)
    expected = attention(q, k, v)
    assert_bits(attention(q[0], k[0], v[0]), expected[0], "three dimensions")
    assert_bits(attention(q[0, 1], k[0, 1], v[0, 1]), expected[0, 1], "two dimensions")
    five = attention(q[:, None], k[:, None].expand(2, 4, 3, 7, 8), v[:, None])
    assert_bits(five, expected[:, None].expand(2, 4, 3, 5, 9), "five dimensions, broadcast")
    one = attention(q, k[:1], v[:1])
    assert_bits(one, attention(q, k[:1].expand_as(k), v[:1].expand_as(v)), "a batch of one")
    shared = attention(q, k[:, :1], v[:, :1])
    assert_bits(shared, attention(q, k[:, :1].expand_as(k), v[:, :1].expand_as(v)), "one head")
    mask = normal("m", 2, 1, 1, 5, 7)
    for few, wide in ((q, mask[:, None]), (q[:1], mask[:, 0]), (q[0], mask[:, 0])):
        with pytest.raises((RuntimeError, ValueError), match="`attn_mask` has shape"):
            attention(few, few, few, wide[..., :5])
    result = attention(q[:, None], k[:, None], v[:, None], mask)
    assert_bits(result[1, 0], attention(q[1:], k[1:], v[1:], mask[1])[0], "mask of five")


def test_bad_arguments() -> None:
    q, k, v = operands(2, 3, 5, 7, 8, 9)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"dropout_p": 0.1}, "`dropout_p` is 0.1; it may be 0"),
        ({"attn_mask": torch.zeros(5, 7), "is_causal": True}, "`is_causal` is True beside"),
        ({"attn_mask": torch.zeros(5, 6)}, r"`attn_mask` has shape \[1, 1, 5, 6\]"),
        ({"attn_mask": torch.zeros(5, 7, dtype=torch.int32)}, "`attn_mask` has another dtype"),
        ({"attn_mask": torch.zeros(5, 7, dtype=torch.float64)}, "`attn_mask` has another dtype"),
        ({"scale": "x"}, "`scale` is 'x' .*; it may be a number"),
        ({"key": k[..., :7]}, r"`key` has shape .* its size 3 may be 8, the query's columns"),
        ({"value": v[:, :, :6]}, r"`value` has shape .* its size 2 may be 7, the key's rows"),
        ({"value": v[0, 0, 0]}, "`value` has 1 dimensions; it may have 2 and more"),
        ({"key": k.double()}, "`key`"),
        ({"query": None}, "`query` is None"),
    ]
    for change, message in changes:
        with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
            attention(**{"query": q, "key": k, "value": v, **change})


def test_no_columns_weigh_all_keys_alike() -> None:
    _, _, v = operands(2, 3, 4, 4, 1, 6)
    none = torch.zeros(2, 3, 5, 0)
    result = attention(none, none[:, :, :4], v)
    torch.testing.assert_close(result, v.mean(2, keepdim=True).expand(2, 3, 5, 6))


def test_a_float32_mask_beside_float64() -> None:
    q, k, v = operands(1, 2, 5, 7, 8, 9, dtype=torch.float64)
    mask = normal("mask", 5, 7)
    assert_bits(attention(q, k, v, mask), attention(q, k, v, mask.double()))


class Attending(nn.Module):
    def forward(self, x: Tensor, mask: Tensor, **options: Any) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, mask, **options)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_a_patched_model_takes_masks_of_both_kinds(kind: torch.dtype) -> None:
    x, mask = normal("x", 3, 2, 17, 8), normal("mask", 17, 17)
    mask = mask > 0 if kind == torch.bool else mask
    expected = attention(x, x, x, mask)
    model = bninv.patch(Attending().eval(), strict=True)
    with torch.no_grad():
        assert_bits(model(x, mask), expected)
        assert_bits(torch.jit.trace(model, (x[:2], mask))(x, mask), expected)
        assert_bits(torch.compile(model, backend="eager", fullgraph=True)(x, mask), expected)
        with pytest.raises(bninv.NotInvariantError):  # what bninv does not do is stock's
            model(x, mask, is_causal=True)


def test_is_public() -> None:
    assert F.scaled_dot_product_attention is attention


@pytest.mark.parametrize("dtype", [torch.float32, *NARROW], ids=str)
def test_accuracy(dtype: torch.dtype) -> None:
    q, k, v = operands(2, 3, 197, 197, 64, 64, dtype=dtype)
    exact = stock(q.double(), k.double(), v.double())
    own, stocks = ((f(q, k, v) - exact).abs().max() for f in (attention, stock))
    assert own <= 2 * stocks
