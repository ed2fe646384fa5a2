"""Attention: rule R7."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
        query: [..., heads, queries, E]; float32, float16 or bfloat16. The others have its dtype,
            and leading dimensions that broadcast with its own.
        key: [..., heads, keys, E].
        value: [..., heads, keys, Ev].
        attn_mask: broadcastable to [..., heads, queries, keys]: bool, True where a key takes part;
            or of the query's dtype or float32, to be added to the scores. None: every key.
        dropout_p: 0; there is no dropout here.
        is_causal: query i has the keys 0 to i. Not beside an `attn_mask`.
        scale: of the scores; None: 1 / sqrt(E). It is rounded once to the arithmetic type.
        enable_gqa: key and value may have fewer heads, a divisor of the query's, each for as many
            neighbouring heads of the query.

    Returns:
        [..., heads, queries, Ev]; of four dimensions, queries lie before heads in memory.

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
    dims = max(query.dim(), key.dim(), value.dim(), *_mask_dims(attn_mask))
    if dims == 4 and query.shape[0] == key.shape[0] == value.shape[0]:
        batch = None
        if attn_mask is not None:
            attn_mask = _four_dimensions(attn_mask)
    else:
        batch, (query, key, value, attn_mask) = _as_four(query, key, value, attn_mask, enable_gqa)
    if attn_mask is not None and attn_mask.shape[-1] == 1 != key.shape[-2]:
        attn_mask = attn_mask.expand(*attn_mask.shape[:-1], key.shape[-2])
    result = call(
        ops.scaled_dot_product_attention.default,
        *(query, key, value, attn_mask, is_causal, scale, enable_gqa),
    )
    return result if batch is None else result.reshape(*batch, *result.shape[-2:])


def _mask_dims(mask: Tensor | None) -> list[int]:
    if mask is None:
        return []
    need_tensor("attn_mask", mask)
    return [mask.dim()]


def _four_dimensions(tensor: Tensor) -> Tensor:
    return tensor[(None,) * (4 - tensor.dim())] if tensor.dim() < 4 else tensor


def _as_four(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, enable_gqa: bool
) -> tuple[list[int], list[Any]]:
    """The leading dimensions of the result, and the tensors as [batch, heads, rows, columns]."""
    tensors = [query, key, value]
    # Heads that are shared do not broadcast.
    heads = [t.shape[-3] if t.dim() > 2 else 1 for t in tensors]
    kept = 3 if enable_gqa else 2
    leading = torch.broadcast_shapes(
        *(t.shape[:-kept] for t in tensors), *(() if mask is None else (mask.shape[:-kept],))
    )
    if not enable_gqa:
        *leading, shared = leading or (1,)
        heads = [shared] * 3
    four = [
        t.expand(*leading, *([h] if t.dim() > 2 or leading else [1]), *t.shape[-2:]).reshape(
            -1, h, *t.shape[-2:]
        )
        for t, h in zip(tensors, heads, strict=True)
    ]
    if mask is not None:
        own = mask.shape[-3] if mask.dim() > 2 else 1
        mask = mask.expand(*leading, own, *mask.shape[-2:]).reshape(-1, own, *mask.shape[-2:])
    most = max(t.dim() for t in tensors)
    batch = [*leading, heads[0]] if most > 2 or leading else []
    return batch, [*four, mask]


# ---- The operator --------------------------------------------------------------------------------


def _fake(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    batch, heads, queries, _ = query.shape
    return query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)


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
        float64=False,
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
    need(dropout_p == 0)
    return scaled_dot_product_attention(
        query, key, value, attn_mask, 0.0, is_causal, scale, enable_gqa
    )


ATEN: dict[str, Adapter] = {"scaled_dot_product_attention": _attention}
PYTHON: dict[str, Adapter] = {}

__all__ = ["scaled_dot_product_attention"]
