"""The difference over depth as a picture in a file, drawn by matplotlib (bninv[plot])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bninv.checking.result import CheckResult
from bninv.report.depth_axes import DepthAxes, depth_axes, title

# Okabe and Ito's vermilion and blue, which colour-blind readers tell apart.
COLOURS = {"stock": "#D55E00", "patched": "#0072B2"}
_INCHES, _DPI = (12.0, 7.0), 100


class PlotError(ValueError):
    """The picture cannot be drawn: matplotlib is missing, or does not write such files."""


def file_format(path: Path) -> str:
    """The format that a file's suffix asks for, png without one.

    Raises:
        PlotError: matplotlib is missing, or does not write that format.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise PlotError(
            f"matplotlib cannot be imported ({error}): pip install 'bninv[plot]'"
        ) from error
    known = FigureCanvasBase.get_supported_filetypes()
    wanted = path.suffix.removeprefix(".").lower() or "png"
    if wanted not in known:
        raise PlotError(f"unknown suffix {path.suffix}; it may be .{', .'.join(sorted(known))}")
    return wanted


def save_plot(result: CheckResult, path: Path) -> None:
    """Draw a result of `check(..., depth=True)` into a file, 1200 x 700 pixels where it has such.

    Raises:
        PlotError: see `file_format`; or the result holds no depth.
        OSError: the file cannot be written.
    """
    wanted = file_format(path)
    axes = depth_axes(result)
    if axes is None:
        raise PlotError("the result holds no depth: check(..., depth=True)")
    figure = _figure(axes, title(result))
    figure.savefig(path, format=wanted, dpi=_DPI)


def _figure(axes: DepthAxes, text: str) -> Any:
    # The object API: no display, and no state that a caller's own plots would share.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    panel = figure.add_subplot()
    panel.axhspan(axes.bottom, axes.low - 0.5, color="black", alpha=0.06, linewidth=0)
    for series in axes.series:
        heights = [axes.height(row.max_rel) for row in series.rows]
        colour = COLOURS[series.name]
        # Patched on top of stock, thinner, so that both are seen where both are zero.
        stock = series.name == "stock"
        panel.plot(
            series.places,
            heights,
            "o-" if stock else "s-",
            color=colour,
            linewidth=1.6 if stock else 1.0,
            markersize=4 if stock else 2.5,
            label=f"{series.name}: {_moved(series.rows)}",
        )
    decades = [(axes.zero, "0: the\nsame bits"), *((d, f"$10^{{{d}}}$") for d in axes.decades())]
    if axes.has_infinite:
        decades.append((axes.infinite, "NaN"))
    panel.set_yticks([place for place, _ in decades], [label for _, label in decades])
    panel.set_ylim(axes.bottom, axes.top)
    ticks = axes.ticks()
    panel.set_xticks(
        [place for place, _ in ticks],
        [_plain(name) for _, name in ticks],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=9,
    )
    panel.margins(x=0.02)
    panel.grid(linewidth=0.4)
    panel.set_axisbelow(True)
    panel.set_xlabel("modules in the order in which they ran")
    panel.set_ylabel("largest difference / largest output of the module")
    panel.set_title(_plain(text), fontsize=12)
    panel.legend(loc="upper left")
    return figure


def _moved(rows: list[Any]) -> str:
    moved = sum(1 for row in rows if row.differing)
    return f"{moved} of {len(rows)} module outputs differ"


def _plain(text: str) -> str:
    """A dollar sign in a name starts no formula."""
    return text.replace("$", r"\$")
