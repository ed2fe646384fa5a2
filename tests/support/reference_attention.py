"""Rule R7 in NumPy, query by query and key by key: literal and slow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.reference import Reals, dot, fma_of, maximum, sum32
from tests.support.reference_dtypes import rounded, widened
from tests.support.reference_functions import exp

KEYS = 128  # in a block


def attention(
    query: Reals,
    key: Reals,
    value: Reals,
    scale: float,
    added: Reals | None = None,
    excluded: np.ndarray[Any, Any] | None = None,
) -> Reals:
    """[heads, queries, E], [heads, keys, E], [heads, keys, Ev]; the masks are as the scores."""
    dtype = query.dtype
    fused = fma_of(dtype)
    scores = dot(query[:, :, None, :], key[:, None, :, :])
    with np.errstate(all="ignore"):
        scores = scores * dtype.type(scale)
        if added is not None:
            scores = scores + added
    if excluded is not None:
        scores = np.where(excluded, dtype.type(-np.inf), scores)
    rows = scores.shape[:2]
    greatest = np.full(rows, -np.inf, dtype)
    total, output = np.zeros(rows, dtype), np.zeros((*rows, value.shape[-1]), dtype)
    for start in range(0, key.shape[1], KEYS):
        block = scores[:, :, start : start + KEYS]
        now = greatest
        for j in range(block.shape[-1]):
            now = maximum(now, block[:, :, j])
        counts = now != -np.inf
        out = block == -np.inf
        with np.errstate(all="ignore"):
            decay = np.where(greatest == -np.inf, 0, exp(greatest - now)).astype(dtype)
            weights = np.where(out, 0, exp(block - now[:, :, None])).astype(dtype)
        product = np.zeros_like(output)
        for j in range(block.shape[-1]):
            term = fused(weights[:, :, j, None], value[:, None, start + j, :], product)
            product = np.where(out[:, :, j, None], product, term)
        sums = fused(total, decay, sum32(weights))
        total = np.where(counts, sums, total)
        outputs = fused(output, decay[:, :, None], product)
        output = np.where(counts[:, :, None], outputs, output)
        greatest = now
    with np.errstate(all="ignore"):
        result = (output + dtype.type(0)) / total[:, :, None]
    return np.where((greatest == -np.inf)[:, :, None], dtype.type(0), result)


def on_tensors(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The operator's arguments with equal leading dimensions, heads shared or not."""
    shape = query.shape[:-1]
    scale = float(1 / np.sqrt(np.float64(query.shape[-1]))) if scale is None else scale
    shared = query.shape[-3] // key.shape[-3] if query.dim() > 2 else 1
    key, value = (t.repeat_interleave(shared, -3) if shared > 1 else t for t in (key, value))
    heads = math.prod(shape[:-1])
    q, k, v = (widened(t.reshape(heads, *t.shape[-2:]), query.dtype) for t in (query, key, value))
    full = (*shape, key.shape[-2])
    added = excluded = None
    if is_causal:
        excluded = ~np.tri(full[-2], full[-1], dtype=bool)[None]
    elif attn_mask is not None:
        mask = attn_mask.expand(full).reshape(heads, *full[-2:])
        if mask.dtype == torch.bool:
            excluded = ~mask.numpy()
        else:
            added = mask.double().numpy().astype(q.dtype)
    result = attention(q, k, v, scale, added, excluded)
    return rounded(result, query.dtype).reshape(*shape, value.shape[-1])
