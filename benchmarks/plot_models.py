"""Draws what bench_models.py measured: images per second, and times to patched, over batch sizes.

python -m benchmarks.plot_models benchmarks/results/models_cpu.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import plot_style
from benchmarks.common.plot_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from benchmarks.models_report import ratios

# Column -> colour, line style, marker: a colour is a way to run, a dash another setting of it.
LINES = {
    "patched": (BLUE, "-", "o"),
    "patched unfused": (BLUE, ":", "o"),
    "stock NCHW": (VERMILION, "-", "s"),
    "stock NCHW, benchmark": (VERMILION, "--", "s"),
    "stock channels_last": (ORANGE, "-", "D"),
    "stock channels_last, benchmark": (ORANGE, "--", "D"),
    "stock channels_last, TF32": (PURPLE, "-", "D"),
    "stock channels_last, TF32, benchmark": (PURPLE, "--", "D"),
    "folded channels_last": (GREEN, "-", "^"),
    "compiled channels_last": (SKY, "-", "v"),
    "compiled channels_last, TF32": (SKY, "--", "v"),
    "cuDNN off": (GREY, "-", "x"),
    "sample by sample": (GREY, ":", "+"),
}


def draw(document: dict[str, Any], path: Path) -> list[Path]:
    """A file for each dtype, beside `path`."""
    drawn = []
    for dtype in plot_style.unique(document["rows"], "dtype"):
        rows = [row for row in document["rows"] if row["dtype"] == dtype]
        title = f"{dtype}, {plot_style.device(document['machine'])}"
        drawn.append(
            plot_style.save(figure(rows, title), path.with_name(f"{path.stem}_{dtype}.png"))
        )
    return drawn


def figure(rows: list[dict[str, Any]], title: str) -> Any:
    """A column for each model: throughput above, the ratios of times below."""
    from matplotlib import pyplot

    models = plot_style.unique(rows, "model")
    batches = sorted(plot_style.unique(rows, "batch_size"))
    made, panels = pyplot.subplots(
        2,
        len(models),
        figsize=(1.5 + 3.2 * len(models), 8),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    times = [time for row in rows for name, time in ratios(row).items() if name in LINES]
    # Setting ticks would widen the axis to them.
    limits = (0.9 * min(0.7, *times), 1.1 * max(1.4, *times))
    for column, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        throughput, ratio = panels[0][column], panels[1][column]
        throughput.set_title(model, fontsize=10)
        for name, (colour, dash, marker) in LINES.items():
            style = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 5}
            style |= {"linewidth": 2.2 if name == "patched" else 1.3, "label": name}
            points = series(own, name)
            if points:
                sizes, rates, relative = zip(*points, strict=True)
                throughput.plot(sizes, rates, **style)
                ratio.plot(sizes, relative, **style)
        for panel in (throughput, ratio):
            panel.set_xscale("log", base=2)
            panel.set_yscale("log", base=10 if panel is throughput else 2)
            panel.set_xticks(batches, [str(batch) for batch in batches])
            panel.grid(which="both", linewidth=0.3)
            panel.tick_params(labelsize=8)
        ratio.set_xlabel("batch size", fontsize=9)
        throughput.yaxis.set_major_formatter("{x:g}")
        ratio.yaxis.set_major_formatter("{x:g}")
        ratio.yaxis.set_minor_formatter("")
        ratio.set_yticks([2.0**step for step in range(-3, 6)])
        # Half steps between them.
        ratio.set_yticks([2 ** (step + 0.5) for step in range(-3, 6)], minor=True)
        ratio.set_ylim(*limits)
    panels[0][0].set_ylabel("images per second", fontsize=9)
    panels[1][0].set_ylabel("time to patched's: above 1, patched is faster", fontsize=9)
    made.suptitle(title)
    made.legend(*plot_style.legend(panels), loc="outside lower center", ncols=4, fontsize=9)
    return made


def series(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float, float]]:
    """Batch size, images per second, and time to patched's, of one candidate."""
    points: dict[int, tuple[int, float, float]] = {}
    for row in rows:
        if name in row["images_per_s"]:
            rate, ratio = row["images_per_s"][name], ratios(row).get(name, 1.0)
            # Patched runs in every group: the first one's stands for it.
            points.setdefault(row["batch_size"], (row["batch_size"], rate, ratio))
    return [points[batch] for batch in sorted(points)]


if __name__ == "__main__":
    plot_style.main(draw)
