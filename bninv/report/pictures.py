"""A detector's changed boxes on the photograph, as SVG within a page: alone, and in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bninv.checking.pictures import DrawnBox, Picture
from bninv.checking.result import CheckResult

_HEAD, _GAP = 22, 16
# An image smaller than this is drawn larger.
_WIDTH = 460


def to_figures(result: CheckResult) -> str:
    """A section with a figure for each picture, of the patched model's first; or nothing."""
    sides = (("patched", result.patched.pictures), ("stock", result.stock.pictures))
    figures = [
        _figure(side, picture, f"{side}{number}")
        for side, pictures in sides
        for number, picture in enumerate(pictures)
    ]
    if not figures:
        return ""
    return (
        "<section><h2>Boxes that changed</h2>\n"
        "<p>The images with the most changes, alone and in a batch. A box in colour has other bits "
        "(most often too few for the eye), was not there before, or is no longer: point at it for "
        "its numbers.</p>\n" + "\n".join(figures) + "\n</section>"
    )


def _figure(side: str, picture: Picture, name: str) -> str:
    scale = _WIDTH / picture.width
    height = picture.height * scale
    where = f"in a batch of {picture.batch_size}, at position {picture.position}"
    left_out = f" {picture.left_out:,} boxes are not drawn." if picture.left_out else ""
    title = f"{side}: {picture.sample}, alone and {where}."
    right = _WIDTH + _GAP
    parts = [
        f'<text x="0" y="15">alone</text><text x="{right}" y="15">{escape(where)}</text>',
        f'<image id="{name}" y="{_HEAD}" width="{_WIDTH}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="data:image/jpeg;base64,{picture.jpeg}"/>',
        f'<use href="#{name}" x="{right}"/>',
        *_boxes(picture.alone, 0, scale),
        *_boxes(picture.in_batch, right, scale),
    ]
    return (
        f'<figure><figcaption>{escape(title)}{left_out}</figcaption><div class="wide" '
        f'tabindex="0"><svg viewBox="0 0 {right + _WIDTH} {_HEAD + height + 2:.1f}" role="img" '
        f'aria-label="{escape(title)}">\n' + "\n".join(parts) + "\n</svg></div></figure>"
    )


def _boxes(boxes: list[DrawnBox], left: float, scale: float) -> Iterator[str]:
    for drawn in boxes:
        x1, y1, x2, y2 = (max(-1e4, min(1e4, v)) if v == v else 0.0 for v in drawn.box)
        yield (
            f'<rect class="box {drawn.change or "still"}" x="{left + scale * x1:.2f}" '
            f'y="{_HEAD + scale * y1:.2f}" width="{max(0.0, scale * (x2 - x1)):.2f}" '
            f'height="{max(0.0, scale * (y2 - y1)):.2f}"><title>{escape(drawn.told)}</title></rect>'
        )
