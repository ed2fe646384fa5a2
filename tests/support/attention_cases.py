"""Operands and masks of attention, at awkward sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.support.properties import INF, normal
from tests.support.reference_dtypes import FLOATING

DTYPES = FLOATING


def operands(
    *sizes: int, dtype: torch.dtype = torch.float32, groups: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, queries, keys, terms, columns = sizes
    groups = groups or heads
    return (
        normal((sizes, "q"), batch, heads, queries, terms).to(dtype),
        normal((sizes, "k"), batch, groups, keys, terms).to(dtype),
        normal((sizes, "v"), batch, groups, keys, columns).to(dtype),
    )


# Fewer keys than a vector; blocks, and one more; several of R1's segments of terms.
SIZES = [
    (2, 3, 5, 7, 8, 9),
    (1, 1, 3, 129, 200, 136),
    (1, 2, 70, 257, 64, 64),
    (2, 2, 33, 128, 72, 40),
    (1, 1, 150, 300, 16, 33),
    (1, 1, 1, 1, 1, 1),
]


def masks(sizes: Sequence[int], dtype: torch.dtype) -> list[Tensor | None]:
    """Added ones, of the operands' dtype and beside them, and boolean ones, of several shapes."""
    batch, heads, queries, keys = sizes[:4]
    added = normal("mask", batch, 1, queries, keys).to(dtype)
    kept = normal("kept", 1, heads, queries, keys) > -0.5
    hidden = added.masked_fill(kept[:, :1], -INF)
    row = normal("row", 1, 1, 1, keys).to(torch.promote_types(dtype, torch.float32))
    return [None, added, kept, hidden, row, kept[:, :, :, :1]]
