"""What bench_batch_norm.py makes of its rows: sums over networks, and tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from batch_norm_layers import FORMATS, NETWORKS, OPERATIONS
from rich import box
from rich.console import Console
from rich.table import Table


def sum_networks(models: list[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of all BatchNorms of a network and what follows them, each as often as it occurs."""
    measured: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        kind = (row["batch_size"], row["dtype"], row["memory_format"])
        layer = (*row["shape"][:2], row["operation"])
        measured.setdefault(kind, {})[layer] = row["milliseconds"]
    sums = []
    for model in models:
        counts = {
            (*shape, operation): count
            for shape, operations in NETWORKS[model].items()
            for operation, count in operations.items()
        }
        for (batch, dtype, memory_format), layers in measured.items():
            if not counts.keys() <= layers.keys():
                continue
            total: dict[str, float] = {}
            for layer, count in counts.items():
                times = dict(layers[layer])
                # Alone, fused and unfused are the same call.
                times.setdefault("bninv_unfused", times["bninv"])
                for name, time in times.items():
                    total[name] = total.get(name, 0.0) + count * time["median"]
            # A user chooses one setting for the network, not one for each layer.
            best = min(time for name, time in total.items() if name.startswith("stock"))
            sums.append(
                {
                    "model": model,
                    "batch_size": batch,
                    "dtype": dtype,
                    "memory_format": memory_format,
                    "ratio": round(best / total["bninv"], 4),
                    "milliseconds": {name: round(time, 4) for name, time in total.items()},
                }
            )
    return sums


def new_table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE)
    for column in left:
        table.add_column(column, no_wrap=True)
    for column in right:
        table.add_column(column.replace("_", "\n"), justify="right", no_wrap=True)
    return table


def row_table(title: str, rows: list[dict[str, Any]], names: list[str]) -> Table:
    on_gpu = "fraction_of_copy" in rows[0]
    unit, scale = ("us", 1e3) if on_gpu else ("ms", 1.0)
    table = new_table(
        f"{title}: {unit}; ratio of the best stock to bninv; GB/s of bninv",
        ("shape", "format", "operation"),
        (*names, "ratio", "GB/s", *(["of_copy"] if on_gpu else [])),
    )
    for row in rows:
        channels, size, _ = row["shape"]
        times = row["milliseconds"]
        table.add_row(
            f"{channels} x {size}\u00b2",
            FORMATS[row["memory_format"]],
            OPERATIONS[row["operation"]].title,
            *(f"{times[name]['median'] * scale:#.3g}" if name in times else "" for name in names),
            f"{row['ratio']:.2f}",
            f"{row['gb_per_s']['bninv']:.0f}",
            *([f"{row['fraction_of_copy']:.2f}"] if on_gpu else []),
        )
    return table


def print_tables(
    console: Console, rows: list[dict[str, Any]], networks: list[dict[str, Any]]
) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["milliseconds"]))
    for (dtype, batch), some in itertools.groupby(rows, itemgetter("dtype", "batch_size")):
        console.print(row_table(f"{dtype}, batch {batch}", list(some), names))
    if networks:
        console.print(network_table(networks, names))


def network_table(networks: list[dict[str, Any]], names: list[str]) -> Table:
    table = new_table(
        "All BatchNorms of a network, with what follows each: milliseconds",
        ("model", "dtype", "batch", "format"),
        (*names, "ratio"),
    )
    for row in networks:
        table.add_row(
            row["model"],
            row["dtype"],
            str(row["batch_size"]),
            FORMATS[row["memory_format"]],
            *(f"{row['milliseconds'][name]:#.3g}" for name in names),
            f"{row['ratio']:.2f}",
        )
    return table
