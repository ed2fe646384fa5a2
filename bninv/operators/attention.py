"""Attention: rule R7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import need_tensor, number
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`softmax(query @ key.T * scale + attn_mask) @ value`, in one pass over the keys: rule R7.

    A key whose score is -inf, by a mask or by itself, takes no part, whatever its value holds. A
    query without a key is +0. A NaN among the scores makes the query's result NaN.

    Args:
        query: [..., heads, queries, E]; float32, float64, float16 or bfloat16. The others have its
            dtype, and leading dimensions that broadcast with its own.
        key: [..., heads, keys, E].
        value: [..., heads, keys, Ev].
        attn_mask: broadcastable to [..., heads, queries, keys]: bool, True where a key takes part;
            or of the query's dtype or float32, to be added to the scores. None: every key.
        dropout_p: 0; there is no dropout here.
        is_causal: query i has the keys 0 to i. Not beside an `attn_mask`.
        scale: of the scores; None: 1 / sqrt(E), and 1 where E is 0. It is rounded once to the
            arithmetic type.
        enable_gqa: key and value may have fewer heads, a divisor of the query's, each for as many
            neighbouring heads of the query.

    Returns:
        [..., heads, queries, Ev], contiguous.

    Raises:
        ValueError: `dropout_p` is not 0, or shapes do not fit.
        RuntimeError: a dtype, device or size does not fit.
    """
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        need_tensor(name, tensor)
        if tensor.dim() < 2:
            raise ValueError(f"`{name}` has {tensor.dim()} dimensions; it may have 2 and more")
    if dropout_p:
        raise ValueError(f"`dropout_p` is {dropout_p}; it may be 0: bninv has no dropout")
    if scale is not None:
        scale = number(scale, "scale")
    operands: list[Any] = [query, key, value, attn_mask]
    if attn_mask is not None:
        need_tensor("attn_mask", attn_mask)
        if query.dtype is torch.float64 and attn_mask.dtype is torch.float32:
            operands[3] = attn_mask = attn_mask.double()  # exactly
    same = 1 if enable_gqa else 2
    # A trace holds for other sizes: what depends on them is left to the operator's own checks.
    traced = _torch.tracing_state() is not None
    plain = all(
        t.dim() == 4 and (traced or t.shape[:same] == query.shape[:same])
        for t in (query, key, value)
    )
    leading: Sequence[int] = ()
    if not plain or (attn_mask is not None and attn_mask.dim() > 4):
        leading, operands = _of_four_dimensions(operands, enable_gqa)
    elif attn_mask is not None:
        operands[3] = attn_mask[(None,) * (4 - attn_mask.dim())]
    mask = operands[3]
    if mask is not None and (traced or mask.shape[-1] == 1 != key.shape[-2]):
        operands[3] = mask.expand(*mask.shape[:-1], key.shape[-2])
    result: Tensor = call(
        ops.scaled_dot_product_attention.default, *operands, is_causal, scale, enable_gqa
    )
    if plain:
        return result
    dims = max(t.dim() for t in (query, key, value))
    return result.reshape(*(leading if dims > 2 else ()), *result.shape[2:])


def _of_four_dimensions(operands: list[Any], enable_gqa: bool) -> tuple[Sequence[int], list[Any]]:
    """The leading dimensions of the result, and the operands as [batch, heads, rows, columns]."""
    tensors: list[Any] = [None if t is None else t[(None,) * max(0, 3 - t.dim())] for t in operands]
    present = tensors[:3]
    kept = 3 if enable_gqa else 2  # heads that are shared do not broadcast
    try:
        leading = list(torch.broadcast_shapes(*(t.shape[:-kept] for t in present)))
    except RuntimeError:
        shapes = ", ".join(str(list(t.shape)) for t in operands[:3])
        raise ValueError(
            f"`query`, `key` and `value` have shapes {shapes}; their first dimensions, all but "
            f"{kept}, may broadcast"
        ) from None
    if enable_gqa:
        outer, heads = leading, [t.shape[-3] for t in present]
    else:
        outer, heads = leading[:-1], leading[-1:] * 3
    batch = math.prod(outer)
    shaped = [
        t.expand(*outer, h, -1, -1).reshape(batch, h, *t.shape[-2:])
        for t, h in zip(present, heads, strict=True)
    ]
    mask = tensors[3]
    if mask is not None:
        own = mask.shape[-3:]
        try:
            mask = mask.expand(*outer, *own).reshape(batch, *own)
        except RuntimeError:
            raise ValueError(
                f"`attn_mask` has shape {list(operands[3].shape)}; it may be one that broadcasts "
                f"to {[*outer, heads[0], present[0].shape[-2], present[1].shape[-2]]}"
            ) from None
    return (*outer, heads[0]), [*shaped, mask]


# ---- The operator --------------------------------------------------------------------------------


def _fake(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def _draw(draw: Draw) -> list[Any]:
    chosen = draw.random
    groups, shared = chosen.randint(1, 3), chosen.choice([1, 1, 2])
    batch, heads = chosen.randint(1, 3), groups * shared
    terms, columns = draw.size(72), draw.size(72)
    most = max(1, draw.most // (batch * heads * max(terms, columns)))
    queries, keys = draw.size(min(150, most)), draw.size(min(300, most))
    query = draw.input(batch, heads, queries, terms)
    key, value = draw.input(batch, groups, keys, terms), draw.input(batch, groups, keys, columns)
    mask = None
    causal = chosen.random() < 0.3
    if not causal and chosen.random() < 0.6:
        sizes = [chosen.choice([1, size]) for size in (batch, heads, queries)]
        mask = draw.tensor(*sizes, keys)
        if chosen.random() < 0.5:
            mask = mask > 0
    return [query, key, value, mask, causal, chosen.choice([None, 0.3]), shared > 1]


OPERATORS = [
    Operator(
        "scaled_dot_product_attention",
        "(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, bool is_causal=False, "
        "float? scale=None, bool enable_gqa=False) -> Tensor",
        _fake,
        _draw,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    need(dropout_p == 0 and not (is_causal and attn_mask is not None))
    need(not enable_gqa or key.shape[-3:-2] == value.shape[-3:-2])
    return scaled_dot_product_attention(
        query, key, value, attn_mask, 0.0, is_causal, scale, enable_gqa
    )


ATEN: dict[str, Adapter] = {"scaled_dot_product_attention": _attention}
PYTHON: dict[str, Adapter] = {}

__all__ = ["scaled_dot_product_attention"]
