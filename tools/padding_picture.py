"""Draw docs/padding.svg: one image alone, beside a larger one, and padded to one shape.

Run from the root: python -m tools.padding_picture
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# (height, width), as an image is once resized, and what it is padded to, a quarter of the pixels.
_SMALL, _LARGE = (75, 100), (125, 100)
_STEP = 8
_CANVAS = (136, 136)
_TOP, _GAP = 34, 26
_PANELS = (
    ("alone", _SMALL, None),
    ("beside a larger one", _LARGE, None),
    ("fixed_size: alone or not", _SMALL, _CANVAS),
)


def draw() -> str:
    """The picture as SVG."""
    parts: list[str] = []
    x = 10
    for title, largest, canvas in _PANELS:
        shape = canvas or tuple(-(-side // _STEP) * _STEP for side in largest)
        parts += _panel(x, title, (shape[0], shape[1]))
        x += 160 + _GAP
    height = _TOP + _CANVAS[0] + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x} {height}" width="{x}" '
        f'height="{height}" font-family="sans-serif" font-size="12">\n'
        "<title>The same image, padded to three shapes</title>\n"
        f'<rect width="{x}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(x: int, title: str, shape: tuple[int, int]) -> Iterator[str]:
    (height, width), (padded_height, padded_width) = _SMALL, shape
    yield f'<text x="{x}" y="20">{title}</text>'
    yield _rect(x, _TOP, padded_width, padded_height, "#d7dbe0", "#57606a")
    yield _rect(x, _TOP, width, height, "#7fb2e5", "#0067a8")
    yield _rect(x + 22, _TOP + 18, 40, 44, "none", "#c04f00")
    yield (
        f'<text x="{x}" y="{_TOP + _CANVAS[0] + 18}" fill="#57606a">'
        f"{4 * height} x {4 * width}, padded to {4 * padded_height} x {4 * padded_width}</text>"
    )


def _rect(x: int, y: int, width: int, height: int, fill: str, stroke: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.5"/>'
    )


if __name__ == "__main__":
    Path("docs/padding.svg").write_text(draw(), encoding="utf-8")
