"""What the benchmarks' figures share. matplotlib is imported when something is drawn: it may be
missing where something is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#999999"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE)

Draw = Callable[[dict[str, Any], Path], list[Path]]


def draw_or_explain(draw: Draw, path: Path) -> str:
    """Draw the results in `path`, and say what; or say what is missing for it."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        module = Path(sys.modules[draw.__module__].__file__ or "").stem
        return (
            "not drawn: matplotlib is missing. Install the extra bninv[plot], then run\n"
            f"  python -m benchmarks.{module} {path}"
        )
    matplotlib.use("Agg")
    drawn = draw(json.loads(path.read_text()), path)
    return "drawn: " + ", ".join(map(str, drawn))


def main(draw: Draw) -> None:
    """The command line of a script that draws."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} RESULTS.json")
    print(draw_or_explain(draw, Path(sys.argv[1])))


def device(machine: dict[str, Any]) -> str:
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    return f"{where}, torch {machine['torch']}"


def unique(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def legend(panels: Any) -> tuple[list[Any], list[str]]:
    """Every label once, from whichever panel has it."""
    found: dict[str, Any] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
