"""Draws what bench_batch_norm.py measured.

python benchmarks/plot_batch_norm.py benchmarks/results/batch_norm_cpu.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from batch_norm_layers import FORMATS, OPERATIONS

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#999999"


def draw_or_explain(path: Path) -> str:
    """Draws, and says what; or says what is missing for it."""
    try:
        return "drawn: " + ", ".join(str(drawn) for drawn in draw(path))
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return (
            "not drawn: matplotlib is missing. Install the extra bninv[plot], then run\n"
            f"  python benchmarks/plot_batch_norm.py {path}"
        )


def draw(path: Path) -> list[Path]:
    """The ratios, a file for each dtype; on CUDA the bandwidth too. All beside `path`."""
    import matplotlib

    matplotlib.use("Agg")
    document = json.loads(path.read_text())
    rows, machine = document["rows"], document["machine"]
    device = machine.get("gpu") or f"{machine['cpu']}, threads: {machine['threads']}"
    drawn = []
    for dtype in unique(rows, "dtype"):
        title = f"{dtype} on {device}, torch {machine['torch']}"
        figure = draw_ratios([row for row in rows if row["dtype"] == dtype], title)
        drawn.append(save(figure, path.with_name(f"{path.stem}_{dtype}.png")))
    if "copy_gb_per_s" in machine:
        copy = machine["copy_gb_per_s"]
        figure = draw_bandwidth(rows, f"{device}: a large copy moves {copy:.0f} GB/s")
        drawn.append(save(figure, path.with_name(f"{path.stem}_bandwidth.png")))
    return drawn


def unique(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


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


def legend(panels: Any) -> tuple[list[Any], list[str]]:
    """Every label once, from whichever panel has it."""
    found: dict[str, Any] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


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


def main(path: Annotated[Path, typer.Argument(help="a JSON file of bench_batch_norm.py")]) -> None:
    print(draw_or_explain(path))


if __name__ == "__main__":
    typer.run(main)
