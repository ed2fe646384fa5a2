"""Whole models, patched against stock eager in both memory formats, interleaved in one run.

python benchmarks/bench_models.py [--models resnet34,resnet50] [--batch-sizes 1,8,32]
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any

import timm
import torch
import typer
from harness import interleave, write
from rich.console import Console
from rich.table import Table

import bninv


def main(
    models: Annotated[str, typer.Option(help="timm names, comma-separated")] = "resnet34,resnet50",
    batch_sizes: Annotated[str, typer.Option(help="comma-separated")] = "1,8,32",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 20.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write results/models_cpu.json")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table(title="milliseconds a forward (median)")
    for column in ("model", "batch", "stock NCHW", "stock channels_last", "patched", "ratio"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows: list[dict[str, Any]] = []
    for name in models.split(","):
        torch.manual_seed(0)
        nchw = timm.create_model(name).eval()
        nhwc = copy.deepcopy(nchw).to(memory_format=torch.channels_last)
        patched = bninv.patch(copy.deepcopy(nchw), strict=True)
        for batch in (int(size) for size in batch_sizes.split(",")):
            x = torch.randn(batch, 3, 224, 224)
            y = x.to(memory_format=torch.channels_last)
            with torch.inference_mode():
                # Each gets the input as its memory format wants it; the patched one as users do.
                times = interleave(
                    {
                        "stock_nchw": partial(nchw, x),
                        "stock_channels_last": partial(nhwc, y),
                        "patched": partial(patched, x),
                    },
                    seconds,
                )
            best = min(times["stock_nchw"]["median"], times["stock_channels_last"]["median"])
            # Above 1: the patched model is faster than the better stock memory format.
            ratio = best / times["patched"]["median"]
            rows.append({"model": name, "batch_size": batch, "ratio": ratio, **times})
            table.add_row(
                name,
                str(batch),
                *(f"{times[k]['median']:.1f}" for k in times),
                f"{ratio:.2f}",
            )
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('models_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
