"""Attention in one pass against stock's, interleaved, at the shapes of vision transformers.

python -m benchmarks.bench_attention
BNINV_CPU_CAPABILITY=avx2 python -m benchmarks.bench_attention --no-write-results
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.common.beside_stock import Pair, command
from bninv import functional as F

# What it is, heads of one image, queries, keys, columns of a head.
SHAPES = [
    ("ViT-S/16 at 224", 6, 197, 197, 64),
    ("ViT-B/16 at 224", 12, 197, 197, 64),
    ("DINOv2 ViT-S/14 at 224", 6, 257, 257, 64),
    ("Swin's windows", 192, 49, 49, 32),
    ("ViT-S/16 at 512", 6, 1024, 1024, 64),
    ("SAM's encoder, global", 12, 4096, 4096, 64),
    ("one query, class attention", 6, 1, 197, 64),
]


def pairs(batch_sizes: list[int]) -> Iterator[Pair]:
    for name, heads, queries, keys, columns in SHAPES:
        for batch in batch_sizes:
            if batch > 1 and queries > 1024:
                continue
            # As a projection gives them: rows of all heads behind each other.
            memory = torch.randn(batch, keys, 3, heads, columns).permute(2, 0, 3, 1, 4)
            query, key, value = memory.unbind(0)
            query = query[:, :, :queries]
            stock = torch.nn.functional.scaled_dot_product_attention
            yield (
                f"{name}, batch {batch}",
                partial(stock, query, key, value),
                partial(F.scaled_dot_product_attention, query, key, value),
            )


if __name__ == "__main__":
    command("attention_cpu", pairs, seconds=4.0)
