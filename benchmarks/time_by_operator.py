"""Where a network's time goes: a patched and a stock model's operators, by PyTorch's profiler.

python -m benchmarks.time_by_operator [--models swin_tiny_patch4_window7_224] [--batch-size 8]
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any

import timm
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

import bninv
from benchmarks.common.harness import write

MODELS = "vit_small_patch16_224,deit_tiny_patch16_224,swin_tiny_patch4_window7_224,convnext_tiny"
CALLS, SHOWN = 5, 6


def times(call: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of one call in each operator itself, the longest first."""
    for _ in range(2):
        call()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        for _ in range(CALLS):
            call()
    of = {event.key: event.self_cpu_time_total / 1e3 / CALLS for event in found.key_averages()}
    return dict(sorted(of.items(), key=lambda item: -item[1]))


def measure(name: str, batch_size: int) -> dict[str, Any]:
    torch.manual_seed(0)
    stock: nn.Module = timm.create_model(name).eval()
    patched = bninv.patch(copy.deepcopy(stock))
    images = torch.randn(batch_size, *stock.default_cfg["input_size"])  # type: ignore[index]
    with torch.inference_mode():
        found = {"stock": times(lambda: stock(images)), "bninv": times(lambda: patched(images))}
    return {"model": name, "batch_size": batch_size, **found}


def shares(found: dict[str, float]) -> str:
    total = sum(found.values())
    longest = list(found.items())[:SHOWN]
    return ", ".join(f"{key.partition('::')[2]} {ms / total:.0%}" for key, ms in longest)


def main(
    models: Annotated[str, typer.Option(help="timm's names, comma-separated")] = MODELS,
    batch_size: Annotated[int, typer.Option(help="images")] = 1,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 1,
    write_results: Annotated[bool, typer.Option(help="write a file under results/")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table(title=f"batch {batch_size}, float32: shares of a call's time")
    for column in ("model", "", "ms", "operators"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    rows = []
    for name in models.split(","):
        row = measure(name, batch_size)
        rows.append(row)
        for which in ("stock", "bninv"):
            total = sum(row[which].values())
            table.add_row(name, which, f"{total:.1f}", shares(row[which]))
    Console(width=160).print(table)
    if write_results:
        Console().print(f"written to {write('time_by_operator_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
