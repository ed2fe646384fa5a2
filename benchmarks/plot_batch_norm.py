"""Draws what bench_batch_norm.py measured.

python -m benchmarks.plot_batch_norm benchmarks/results/batch_norm_cpu.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.batch_norm_layers import FORMATS, OPERATIONS
from benchmarks.common import plot_style
from benchmarks.common.plot_style import COLOURS, GREY, legend, save, unique


def draw(document: dict[str, Any], path: Path) -> list[Path]:
    """The ratios, a file for each dtype; on CUDA the bandwidths too. All beside `path`."""
    rows, device = document["rows"], plot_style.device(document["machine"])
    drawn = []
    for dtype in unique(rows, "dtype"):
        own = [row for row in rows if row["dtype"] == dtype]
        drawn.append(
            save(draw_ratios(own, f"{dtype}, {device}"), path.with_name(f"{path.stem}_{dtype}.png"))
        )
    # On the CPU the tensors are in its caches, which a copy's bandwidth says nothing about.
    if "gpu" not in document["machine"]:
        return drawn
    copy = document["measured"]["copy_gb_per_s"]
    figure = draw_bandwidth(rows, f"{device}: a large copy moves {copy:.0f} GB/s")
    return [*drawn, save(figure, path.with_name(f"{path.stem}_bandwidth.png"))]


def draw_ratios(rows: list[dict[str, Any]], title: str) -> Any:
    """A panel for each operation and memory format; shapes along x, batch sizes side by side."""
    from matplotlib import pyplot

    shapes = sorted({tuple(row["shape"][:2]) for row in rows}, key=lambda s: (-s[1], s[0]))
    places = {shape: i for i, shape in enumerate(shapes)}
    batches = unique(rows, "batch_size")
    operations = [name for name in OPERATIONS if name in unique(rows, "operation")]
    figure, panels = pyplot.subplots(
        len(operations),
        2,
        figsize=(max(7, 4 + 0.42 * len(shapes)), 1.2 + 2.2 * len(operations)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for line, operation in zip(panels, operations, strict=True):
        for panel, memory_format in zip(line, FORMATS, strict=True):
            panel.set_title(f"{OPERATIONS[operation].title}, {FORMATS[memory_format]}", fontsize=10)
            panel.axhline(1, color="black", linewidth=0.8)
            for i, batch in enumerate(batches):
                chosen = [
                    row
                    for row in rows
                    if row["operation"] == operation
                    and row["memory_format"] == memory_format
                    and row["batch_size"] == batch
                ]
                width = 0.8 / len(batches)
                shift = (i - (len(batches) - 1) / 2) * width
                x = [places[tuple(row["shape"][:2])] + shift for row in chosen]
                panel.bar(
                    x,
                    # From the line at 1, in both directions.
                    [row["ratio"] - 1 for row in chosen],
                    width,
                    bottom=1,
                    color=COLOURS[i % len(COLOURS)],
                    label=f"batch {batch}",
                )
                if operation != "batch_norm":
                    panel.plot(
                        x,
                        [unfused_ratio(row) for row in chosen],
                        "_",
                        color="black",
                        markersize=5,
                        label="unfused" if i == 0 else None,
                    )
            panel.grid(axis="y", linewidth=0.4)
            panel.set_axisbelow(True)
            panel.set_xticks(range(len(shapes)), [f"{c} x {s}²" for c, s in shapes], rotation=90)
            panel.tick_params(labelsize=8)
            panel.margins(x=0.01)
    figure.suptitle(title)
    figure.supylabel("time of the best stock / time of bninv", fontsize=10)
    figure.legend(*legend(panels), loc="outside lower center", ncols=len(batches) + 1)
    return figure


def best_stock(row: dict[str, Any]) -> float:
    return min(t["median"] for name, t in row["milliseconds"].items() if name.startswith("stock"))


def unfused_ratio(row: dict[str, Any]) -> float:
    return best_stock(row) / row["milliseconds"]["bninv_unfused"]["median"]


def draw_bandwidth(rows: list[dict[str, Any]], title: str) -> Any:
    """A panel for each dtype and operation: fraction of the copy's bandwidth over bytes moved."""
    from matplotlib import pyplot

    dtypes = unique(rows, "dtype")
    operations = [name for name in OPERATIONS if name in unique(rows, "operation")]
    figure, panels = pyplot.subplots(
        len(dtypes),
        len(operations),
        figsize=(1.5 + 2.7 * len(operations), 1.5 + 2.2 * len(dtypes)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for line, dtype in zip(panels, dtypes, strict=True):
        for panel, operation in zip(line, operations, strict=True):
            panel.set_title(f"{OPERATIONS[operation].title}, {dtype}", fontsize=10)
            panel.axhline(1, color="black", linewidth=0.8)
            panel.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
            chosen = [
                row for row in rows if row["dtype"] == dtype and row["operation"] == operation
            ]
            scale = [row["fraction_of_copy"] / row["gb_per_s"]["bninv"] for row in chosen]
            panel.plot(
                [row["bytes_moved"] / 2**20 for row in chosen],
                [
                    s * row["bytes_moved"] / best_stock(row) / 1e6
                    for s, row in zip(scale, chosen, strict=True)
                ],
                ".",
                color=GREY,
                markersize=4,
                label="best stock",
            )
            for colour, memory_format in zip(COLOURS, FORMATS, strict=False):
                own = [row for row in chosen if row["memory_format"] == memory_format]
                panel.plot(
                    [row["bytes_moved"] / 2**20 for row in own],
                    [row["fraction_of_copy"] for row in own],
                    ".",
                    color=colour,
                    markersize=4,
                    label=f"bninv, {FORMATS[memory_format]}",
                )
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.grid(linewidth=0.4)
            panel.tick_params(labelsize=8)
    panels[0][0].set_ylim(bottom=0)
    figure.suptitle(title)
    for panel in panels[-1]:
        panel.set_xlabel("MiB read and written", fontsize=9)
    figure.supylabel("fraction of the copy's bandwidth", fontsize=10)
    figure.legend(*legend(panels), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    plot_style.main(draw)
