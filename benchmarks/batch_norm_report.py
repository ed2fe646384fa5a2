"""What bench_batch_norm.py makes of its rows: sums over networks, and tables."""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import Any

from benchmarks.batch_norm_layers import FORMATS, NETWORKS, OPERATIONS
from benchmarks.common.tables import plain

Row = dict[str, Any]


def summaries(rows: list[Row], models: list[str]) -> dict[str, list[Row]]:
    return {"networks": sum_networks(models, rows)}


def sum_networks(models: list[str], rows: list[Row]) -> list[Row]:
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


def show(rows: list[Row], models: list[str], measured: Row) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["milliseconds"]))
    by_kind = itemgetter("dtype", "batch_size")
    # Rows that a network has were measured before the others.
    for (dtype, batch), some in itertools.groupby(sorted(rows, key=by_kind), by_kind):
        print(row_table(f"{dtype}, batch {batch}", list(some), names))
    networks = sum_networks(models, rows)
    if networks:
        print(network_table(networks, names))
    print("\nA large copy moves {copy_gb_per_s:g} GB/s.".format(**measured))


def row_table(title: str, rows: list[Row], names: list[str]) -> str:
    lines = [
        (
            "{} x {}\u00b2".format(*row["shape"]),
            FORMATS[row["memory_format"]],
            OPERATIONS[row["operation"]].title,
            *(microseconds(row["milliseconds"].get(name)) for name in names),
            f"{row['ratio']:.2f}",
            f"{row['gb_per_s']['bninv']:.0f}",
            f"{row['fraction_of_copy']:.2f}",
        )
        for row in rows
    ]
    columns = (
        *("shape", "format", "operation"),
        *(name.replace("_", "\n") for name in names),
        *("ratio", "GB/s", "of the\ncopy"),
    )
    title = f"{title}: microseconds; the best stock's time to bninv's; bninv's bandwidth"
    return plain(title, columns, lines, left=3)


def microseconds(times: dict[str, float] | None) -> str:
    return "" if times is None else f"{times['median'] * 1e3:#.4g}"


def network_table(networks: list[Row], names: list[str]) -> str:
    lines = [
        (
            row["model"],
            row["dtype"],
            str(row["batch_size"]),
            FORMATS[row["memory_format"]],
            *(f"{row['milliseconds'][name]:#.3g}" for name in names),
            f"{row['ratio']:.2f}",
        )
        for row in networks
    ]
    title = "All BatchNorms of a network, with what follows each: milliseconds"
    headings = (name.replace("_", "\n") for name in names)
    return plain(title, ("model", "dtype", "batch", "format", *headings, "ratio"), lines, left=2)
