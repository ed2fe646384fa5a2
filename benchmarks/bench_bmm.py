"""Products of batches of matrices against stock's, interleaved: what attention written out has.

python -m benchmarks.bench_bmm
BNINV_CPU_CAPABILITY=avx2 python -m benchmarks.bench_bmm --no-write-results
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.common.beside_stock import Pair, command
from bninv import functional as F

# What it is, samples of one image, rows, terms, columns; whether the right operand is transposed.
PRODUCTS = [
    ("Swin's windows, q @ k.T", 192, 49, 32, 49, True),
    ("Swin's windows, attention @ v", 192, 49, 49, 32, False),
    ("ViT, q @ k.T", 12, 197, 64, 197, True),
    ("ViT, attention @ v", 12, 197, 197, 64, False),
    ("XCiT, q.T @ k", 8, 48, 784, 48, False),
    ("XCiT, attention @ v.T", 8, 48, 48, 784, True),
    ("one large sample", 1, 512, 768, 768, False),
]


def pairs(batch_sizes: list[int]) -> Iterator[Pair]:
    for name, samples, rows, terms, columns, transposed in PRODUCTS:
        for batch in batch_sizes:
            left = torch.randn(batch * samples, rows, terms)
            right = torch.randn(batch * samples, terms, columns)
            if transposed:
                right = right.mT.contiguous().mT
            sizes = f"{batch * samples} x [{rows}, {terms}] x [{terms}, {columns}]"
            call = f"{name}, {sizes}"
            yield call, partial(torch.bmm, left, right), partial(F.matmul, left, right)


if __name__ == "__main__":
    command("bmm_cpu", pairs, seconds=2.0)
