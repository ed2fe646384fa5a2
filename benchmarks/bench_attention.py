"""Attention in one pass against stock's, interleaved, at the shapes of vision transformers.

python -m benchmarks.bench_attention
BNINV_CPU_CAPABILITY=avx2 python -m benchmarks.bench_attention --no-write-results
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common.harness import interleave, write
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


def operands(batch_sizes: list[int]) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    for name, heads, queries, keys, columns in SHAPES:
        for batch in batch_sizes:
            if batch > 1 and queries > 1024:
                continue
            # As a projection gives them: rows of all heads behind each other.
            memory = torch.randn(batch, keys, 3, heads, columns).permute(2, 0, 3, 1, 4)
            query, key, value = memory.unbind(0)
            yield f"{name}, batch {batch}", (query[:, :, :queries], key, value)


def main(
    batch_sizes: Annotated[str, typer.Option(help="images, comma-separated")] = "1,8",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 4.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write results/attention_cpu.json")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table(title="attention in float32: bninv's speed to stock's (medians)")
    for column in ("shape", "stock ms", "bninv ms", "ratio"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for shape, tensors in operands([int(size) for size in batch_sizes.split(",")]):
            runs = {
                "stock": partial(torch.nn.functional.scaled_dot_product_attention, *tensors),
                "bninv": partial(F.scaled_dot_product_attention, *tensors),
            }
            times = interleave(runs, seconds)
            stock, own = (times[name]["median"] for name in runs)
            rows.append({"shape": shape, "ratio": stock / own, **times})
            table.add_row(shape, f"{stock:.3f}", f"{own:.3f}", f"{stock / own:.2f}")
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('attention_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
