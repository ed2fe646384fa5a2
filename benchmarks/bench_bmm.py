"""Products of batches of matrices against stock's, interleaved: what attention written out has.

python -m benchmarks.bench_bmm
BNINV_CPU_CAPABILITY=avx2 python -m benchmarks.bench_bmm --no-write-results
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


def products(batch_sizes: list[int]) -> Iterator[tuple[str, Tensor, Tensor]]:
    for name, samples, rows, terms, columns, transposed in PRODUCTS:
        for batch in batch_sizes:
            left = torch.randn(batch * samples, rows, terms)
            right = torch.randn(batch * samples, terms, columns)
            if transposed:
                right = right.mT.contiguous().mT
            sizes = f"{batch * samples} x [{rows}, {terms}] x [{terms}, {columns}]"
            yield f"{name}, {sizes}", left, right


def main(
    batch_sizes: Annotated[str, typer.Option(help="images, comma-separated")] = "1,8",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 2.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write results/bmm_cpu.json")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table(title="bmm in float32: bninv's speed to stock's (medians)")
    for column in ("product", "stock µs", "bninv µs", "ratio"):
        table.add_column(column, justify="left" if column == "product" else "right")
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for product, left, right in products([int(size) for size in batch_sizes.split(",")]):
            runs = {
                "stock": partial(torch.bmm, left, right),
                "bninv": partial(F.matmul, left, right),
            }
            times = interleave(runs, seconds)
            stock, own = (times[name]["median"] for name in runs)
            rows.append({"product": product, "ratio": stock / own, **times})
            table.add_row(product, f"{stock * 1e3:.0f}", f"{own * 1e3:.0f}", f"{stock / own:.2f}")
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('bmm_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
