"""A detector's changed boxes, ready to be drawn on the photograph they were found in."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bninv.checking.detections import Detections, compare

# So that a page stays small and a picture can be read.
MOST_PICTURES, _MOST_CHANGED, _MOST_STILL, _LONGEST_SIDE = 4, 24, 8, 480


@dataclass
class DrawnBox:
    """One detection: its box (x1, y1, x2, y2), label and score, and what became of it.

    `change` is "" for nothing, or "appeared", "vanished" or "changed"; `told` says it in words.
    """

    box: list[float]
    label: int
    score: float
    change: str
    told: str


@dataclass
class Picture:
    """One image's detections alone and in a batch; `jpeg` is base64, of `width` x `height` pixels.

    `left_out` counts the boxes, of both results, that are not among those to draw.
    """

    sample: str
    batch_size: int
    position: int
    width: int
    height: int
    jpeg: str
    alone: list[DrawnBox]
    in_batch: list[DrawnBox]
    left_out: int


@dataclass
class Seen:
    """A change to draw: an image's detections in the reference and in one batch."""

    index: int
    batch_size: int
    position: int
    before: Detections
    after: Detections
    weight: tuple[int, int]  # see `Changes`


def picture(seen: Seen, image: Tensor, sample: str) -> Picture:
    """Draw-ready data of one image (C, H, W), whose values are in [0, 1]."""
    found = compare(seen.before, seen.after)
    partner = dict(found.pairs)
    origin = {j: i for i, j in found.pairs}
    alone = []
    for i in range(len(seen.before)):
        j = partner.get(i)
        change = "vanished" if j is None else "changed" if (i, j) in found.changed else ""
        alone.append(_drawn(seen.before, i, change, _told(seen, i, j)))
    in_batch = []
    for j in range(len(seen.after)):
        before = origin.get(j)
        change = "appeared" if before is None else "changed" if (before, j) in found.changed else ""
        in_batch.append(_drawn(seen.after, j, change, _told(seen, before, j)))
    shown = [_bounded(boxes) for boxes in (alone, in_batch)]
    return Picture(
        sample,
        seen.batch_size,
        seen.position,
        image.shape[-1],
        image.shape[-2],
        _jpeg(image),
        shown[0],
        shown[1],
        len(alone) + len(in_batch) - sum(map(len, shown)),
    )


def _drawn(found: Detections, index: int, change: str, told: str) -> DrawnBox:
    box = [float(x) for x in found.boxes[index]]
    return DrawnBox(box, int(found.labels[index]), float(found.scores[index]), change, told)


def _told(seen: Seen, i: int | None, j: int | None) -> str:
    if i is None:
        assert j is not None
        return f"appeared: {_words(seen.after, j)}"
    if j is None:
        return f"vanished: {_words(seen.before, i)}"
    alone, batch = _words(seen.before, i), _words(seen.after, j)
    same = all(seen.before.bits[key][i] == seen.after.bits[key][j] for key in seen.before.bits)
    return f"the same bits: {alone}" if same else f"alone: {alone}; in the batch: {batch}"


def _words(found: Detections, index: int) -> str:
    box = ", ".join(f"{x:.9g}" for x in found.boxes[index])
    return f"label {found.labels[index]}, score {found.scores[index]:.9g}, box ({box})"


def _bounded(boxes: list[DrawnBox]) -> list[DrawnBox]:
    # What appeared or vanished first: it is what one sees.
    changed = sorted((b for b in boxes if b.change), key=lambda b: b.change == "changed")
    return [b for b in boxes if not b.change][:_MOST_STILL] + changed[:_MOST_CHANGED]


def _jpeg(image: Tensor) -> str:
    from PIL import Image

    pixels = image.detach().cpu().float().clamp(0, 1).nan_to_num().mul(255).round()
    array = np.asarray(pixels.permute(1, 2, 0).numpy(), np.uint8)
    shown = Image.fromarray(array[:, :, 0] if array.shape[2] != 3 else array)
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
