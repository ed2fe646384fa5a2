"""Single calls of bninv's beside stock's: a table, and the figures under results/."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.common.harness import interleave, write

# What it is, stock's call, bninv's.
Pair = tuple[str, Callable[[], Any], Callable[[], Any]]


def command(name: str, pairs: Callable[[list[int]], Iterable[Pair]], seconds: float) -> None:
    """A benchmark's command line. `pairs` makes the calls for the batch sizes it is given."""

    def main(
        batch_sizes: Annotated[str, typer.Option(help="images, comma-separated")] = "1,8",
        seconds: Annotated[float, typer.Option(help="time for each row, in all")] = seconds,
        threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
        write_results: Annotated[bool, typer.Option(help="write a file under results/")] = True,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        table = Table(title=f"{name}, float32: bninv's speed to stock's (medians)")
        for column in ("call", "stock ms", "bninv ms", "ratio"):
            table.add_column(column, justify="left" if column == "call" else "right")
        rows: list[dict[str, Any]] = []
        with torch.inference_mode():
            for call, stock, own in pairs([int(size) for size in batch_sizes.split(",")]):
                times = interleave({"stock": stock, "bninv": own}, seconds)
                theirs, ours = (times[which]["median"] for which in ("stock", "bninv"))
                rows.append({"call": call, "ratio": theirs / ours, **times})
                table.add_row(call, f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.2f}")
        Console().print(table)
        if write_results:
            Console().print(f"written to {write(name, rows)}")

    typer.run(main)
