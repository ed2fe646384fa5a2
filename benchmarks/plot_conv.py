"""Draws what bench_conv.py measured: each layer's ratio to stock, and its rate.

python -m benchmarks.plot_conv benchmarks/results/conv_cpu.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import plot_style
from benchmarks.common.plot_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from benchmarks.conv_report import TITLES

# Beside the bars, which are the best IEEE stock's: column, label, marker, colour.
MARKS = (
    ("folded channels_last", "stock with BatchNorm folded", "^", GREEN),
    ("bninv unfused", "bninv unfused", "_", "black"),
    ("stock channels_last, TF32", "stock channels_last, TF32", "D", PURPLE),
)
BARS = (BLUE, ORANGE, SKY, GREY)


def draw(document: dict[str, Any], path: Path) -> list[Path]:
    """A file for each dtype, beside `path`."""
    drawn = []
    for dtype in plot_style.unique(document["rows"], "dtype"):
        rows = [row for row in document["rows"] if row["dtype"] == dtype]
        title = f"{dtype}, {plot_style.device(document['machine'])}"
        target = path.with_name(f"{path.stem}_{dtype}.png")
        drawn.append(plot_style.save(figure(rows, title), target))
    return drawn


def figure(rows: list[dict[str, Any]], title: str) -> Any:
    """A panel for each operation and, below, the rates; layers along x, batch sizes in colours."""
    from matplotlib import pyplot

    layers = plot_style.unique(rows, "conv")
    operations = plot_style.unique(rows, "operation")
    batches = sorted(plot_style.unique(rows, "batch_size"))
    made, panels = pyplot.subplots(
        len(operations) + 1,
        1,
        figsize=(3 + 0.3 * len(layers), 3 + 2.8 * (len(operations) + 1)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    width = 0.8 / len(batches)
    for panel, operation in zip(panels[:, 0], operations, strict=False):
        panel.set_title(
            f"{TITLES[operation]}: time to bninv's, above 1 bninv is faster", fontsize=10
        )
        panel.axhline(1, color="black", linewidth=0.8)
        for i, batch in enumerate(batches):
            own = [r for r in rows if (r["operation"], r["batch_size"]) == (operation, batch)]
            places = [layers.index(r["conv"]) + (i - (len(batches) - 1) / 2) * width for r in own]
            # From the line at 1, in both directions.
            heights = [row["ratio"] - 1 for row in own]
            label = f"best IEEE stock, batch {batch}"
            panel.bar(places, heights, width, bottom=1, color=BARS[i % 4], label=label)
            for name, text, marker, colour in MARKS:
                marked = [
                    (x, ratio(row, name))
                    for x, row in zip(places, own, strict=True)
                    if name in row["milliseconds"]
                ]
                if marked:
                    x, y = zip(*marked, strict=True)
                    edge = colour if marker == "_" else "white"
                    style = {"color": colour, "markeredgecolor": edge, "markeredgewidth": 0.7}
                    panel.plot(x, y, marker, **style, markersize=6, label=text)
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter("{x:g}")
    rate = panels[-1][0]
    rate.set_title(
        "convolution: bninv's TFLOP/s (bars) as a fraction of a large float32 GEMM's, "
        "best stock's (dashes)",
        fontsize=10,
    )
    for i, batch in enumerate(batches):
        own = [r for r in rows if (r["operation"], r["batch_size"]) == ("conv", batch)]
        places = [layers.index(r["conv"]) + (i - (len(batches) - 1) / 2) * width for r in own]
        fractions = [row["fraction_of_gemm"] for row in own]
        rate.bar(places, [f["bninv"] for f in fractions], width, color=BARS[i % 4])
        best = [f[row["best_stock"]] for f, row in zip(fractions, own, strict=True)]
        rate.plot(places, best, "_", color="black", markersize=5)
    rate.set_ylim(bottom=0)
    rate.set_xticks(range(len(layers)), layers, rotation=90)
    for panel in panels[:, 0]:
        panel.grid(axis="y", linewidth=0.4)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.01)
    made.suptitle(title)
    made.legend(*plot_style.legend(panels), loc="outside lower center", ncols=3, fontsize=9)
    return made


def ratio(row: dict[str, Any], name: str) -> float:
    times = row["milliseconds"]
    return times[name]["median"] / times["bninv"]["median"]


if __name__ == "__main__":
    plot_style.main(draw)
