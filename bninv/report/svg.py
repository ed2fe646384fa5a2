"""The difference over depth as SVG within a page: no library, and module names at the pointer."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bninv.checking.depth import DepthRow
from bninv.checking.result import CheckResult
from bninv.report.depth_axes import DepthAxes, Series, depth_axes, title
from bninv.report.wording import module_name

# In the units of the picture, which the page scales to its own width.
_WIDTH, _HEIGHT = 960, 450
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 20, 34, 100


def to_svg(result: CheckResult) -> str:
    """The picture; empty if the result was made without depth.

    Its classes (`stock`, `patched`, `grid`, `zero`) get their colours from the page.
    """
    axes = depth_axes(result)
    if axes is None:
        return ""
    parts = [*_grid(axes), *_names(axes)]
    for number, series in enumerate(axes.series):
        parts += _series(axes, series, number)
    label = escape(title(result))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _x(axes: DepthAxes, place: int) -> float:
    inset = 10  # so that the first and the last point stand free
    span = _WIDTH - _LEFT - _RIGHT - 2 * inset
    return _LEFT + inset + span * place / max(1, len(axes.names) - 1)


def _y(axes: DepthAxes, height: float) -> float:
    share = (axes.top - height) / (axes.top - axes.bottom)
    return _TOP + share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(axes: DepthAxes) -> Iterator[str]:
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    band = _y(axes, axes.low - 0.5)
    yield (
        f'<rect class="zero" x="{_LEFT}" y="{band:.1f}" width="{right - _LEFT}" '
        f'height="{floor - band:.1f}"/>'
    )
    lines = [(axes.zero, "same bits"), *((decade, f"1e{decade}") for decade in axes.decades())]
    if axes.has_infinite:
        lines.append((axes.infinite, "NaN or Inf"))
    for height, label in lines:
        y = _y(axes, height)
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _names(axes: DepthAxes) -> Iterator[str]:
    floor = _HEIGHT - _BOTTOM
    for place, name in axes.ticks():
        x = _x(axes, place)
        shown = name if len(name) <= 22 else "…" + name[-21:]
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>'
        yield (
            f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="end" '
            f'transform="rotate(-40 {x:.1f} {floor + 16})">{escape(shown)}</text>'
        )


def _series(axes: DepthAxes, series: Series, number: int) -> Iterator[str]:
    points = [
        (_x(axes, place), _y(axes, axes.height(row.max_rel)))
        for place, row in zip(series.places, series.rows, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    moved = sum(1 for row in series.rows if row.differing)
    x = _LEFT + 330 * number
    yield f'<g class="{series.name}"><polyline points="{line}"/>'
    for (px, py), row in zip(points, series.rows, strict=True):
        text = escape(_told(series.name, row))
        yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3"><title>{text}</title></circle>'
    yield f'<circle cx="{x + 6}" cy="14" r="5"/>'
    yield (
        f'<text x="{x + 18}" y="19">{series.name}: {moved:,} of {len(series.rows):,} '
        "module outputs differ</text></g>"
    )


def _told(side: str, row: DepthRow) -> str:
    where = f"{side}: {module_name(row.module)} ({row.kind})"
    if not row.differing:
        return f"{where}: the same bits"
    return f"{where}: {row.max_rel:.1e}, {row.differing:,} of {row.elements:,} with other bits"
