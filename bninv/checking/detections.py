"""What became of a detector's boxes: which appeared, vanished, moved, or changed label or score.

A detector gives a list with a dict for each image: `boxes` (n, 4) as (x1, y1, x2, y2), `labels` and
`scores`, and maybe masks and keypoints, of as many detections n as it found. Two such results for
one image are compared detection by detection, not place by place: one box more would otherwise
change all that follow.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from torch import Tensor

from bninv.checking.bits import to_array

# Two detections of one image are the same object if their boxes overlap at least so much
# (intersection over union), as evaluations of detectors have it.
_SAME_OBJECT = 0.5
# Or if no coordinate is further away than so many pixels.
_SAME_PLACE = 0.01


@dataclass
class Changes:
    """Counts, of detections or of images, by the kind of change.

    A detection whose box is nowhere in the other result has `appeared` or `vanished`; the others
    have one that overlaps it by half or more, or lies within a hundredth of a pixel of it, of the
    same label before any other label. Of these:
    `relabelled` have another label, `moved` a coordinate of other bits, `rescored` a score of other
    bits, `masks` and `keypoints` other bits there, and `reordered` stand in another order.
    """

    appeared: int = 0
    vanished: int = 0
    relabelled: int = 0
    moved: int = 0
    rescored: int = 0
    reordered: int = 0
    masks: int = 0
    keypoints: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __add__(self, other: Changes) -> Changes:
        return Changes(*(a + b for a, b in zip(*self._values(other), strict=True)))

    def largest(self, other: Changes) -> Changes:
        """The larger count of each kind."""
        return Changes(*(max(a, b) for a, b in zip(*self._values(other), strict=True)))

    def present(self) -> Changes:
        """1 for each kind that there is."""
        return Changes(*(min(1, n) for n in vars(self).values()))

    @property
    def weight(self) -> tuple[int, int]:
        """To sort by: first what one can see without a magnifying glass."""
        return self.appeared + self.vanished + self.relabelled, sum(vars(self).values())

    def _values(self, other: Changes) -> tuple[list[int], list[int]]:
        return list(vars(self).values()), list(vars(other).values())


KINDS = tuple(f.name for f in fields(Changes))


@dataclass
class DetectionRow:
    """What became of every image's detections at one batch size, compared with the reference.

    `changed` of `images` have detections that changed in any arrangement; the references hold
    `detections` in all. `counts` are detections: for each image the most of each kind in any
    arrangement, summed over images. `images_with` counts the images with changes of each kind.
    """

    batch_size: int
    images: int
    changed: int
    detections: int
    counts: Changes
    images_with: Changes


@dataclass
class Padding:
    """Images of several sizes: what changed between alone and in a batch of `batch_size`.

    `sizes` are the images' (height, width). `fixed` is the patched model under `fixed_size`, padded
    to `canvas`; both are None where the model's padding is not torchvision's.
    """

    sizes: list[tuple[int, int]]
    batch_size: int
    stock: DetectionRow
    patched: DetectionRow
    canvas: tuple[int, int] | None = None
    fixed: DetectionRow | None = None


@dataclass
class Detections:
    """One image's detections: boxes and scores as numbers, and everything as bits to compare."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: list[int]
    bits: dict[str, list[bytes]]

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass
class Comparison:
    """Two results for one image: the changes, and the pairs (before, after) of what is the same."""

    changes: Changes
    pairs: list[tuple[int, int]] = field(default_factory=list)
    changed: set[tuple[int, int]] = field(default_factory=set)


def fields_of(names: list[str]) -> dict[str, int] | None:
    """Where in a sample's outputs a detector's tensors are, by key; None if it is no detector's."""
    keys = {
        name[len("output[i]['") : -2]: index
        for index, name in enumerate(names)
        if name.startswith("output[i]['") and name.endswith("']")
    }
    return keys if "boxes" in keys and ("labels" in keys or "scores" in keys) else None


def detections(outputs: list[Tensor], keys: Mapping[str, int]) -> Detections:
    """One image's outputs as detections.

    Raises:
        ValueError: the boxes are not of shape (n, 4).
    """
    boxes = outputs[keys["boxes"]]
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: got shape {tuple(boxes.shape)}, must be (n, 4)")
    n = len(boxes)
    found = {key: outputs[index] for key, index in keys.items()}
    bits = {key: _bits(t) for key, t in found.items() if t.dim() > 0 and len(t) == n}
    labels = found["labels"].tolist() if "labels" in bits else [0] * n
    scores = found["scores"].detach().double().numpy() if "scores" in bits else np.zeros(n)
    return Detections(boxes.detach().double().numpy(), scores, labels, bits)


def compare(before: Detections, after: Detections) -> Comparison:
    """What changed from one result for an image to another."""
    pairs = sorted(_pairs(before, after))
    changes = Changes(appeared=len(after) - len(pairs), vanished=len(before) - len(pairs))
    changed: set[tuple[int, int]] = set()
    shared = sorted(before.bits.keys() & after.bits.keys())
    for i, j in pairs:
        kinds = {_kind(key) for key in shared if before.bits[key][i] != after.bits[key][j]}
        for kind in kinds:
            setattr(changes, kind, getattr(changes, kind) + 1)
        if kinds:
            changed.add((i, j))
    changes.reordered = len(pairs) - _longest_increasing([j for _, j in pairs])
    return Comparison(changes, pairs, changed)


class DetectionTally:
    """Collects, over all arrangements of one batch size, what became of each image's detections."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.changes: dict[int, Changes] = {}
        self.counted: dict[int, int] = {}

    def add(self, index: int, before: Detections, after: Detections | None = None) -> Changes:
        """Compare what image `index` gave; without `after`, the very bits of `before`."""
        changes = compare(before, after).changes if after is not None else Changes()
        self.changes[index] = self.changes.get(index, Changes()).largest(changes)
        self.counted[index] = len(before)
        return changes

    def row(self) -> DetectionRow:
        """All of it."""
        counts, images_with = Changes(), Changes()
        for changes in self.changes.values():
            counts += changes
            images_with += changes.present()
        return DetectionRow(
            self.batch_size,
            len(self.changes),
            sum(map(bool, self.changes.values())),
            sum(self.counted.values()),
            counts,
            images_with,
        )


def _kind(key: str) -> str:
    if key.startswith("keypoint"):
        return "keypoints"  # and their scores
    return {"boxes": "moved", "scores": "rescored", "labels": "relabelled"}.get(key, "masks")


def _bits(tensor: Tensor) -> list[bytes]:
    if not len(tensor):
        return []
    rows = to_array(tensor).reshape(len(tensor), -1)
    if rows.nbytes <= 64 * len(rows):
        return [row.tobytes() for row in rows]
    return [hashlib.sha256(row.tobytes()).digest() for row in rows]


def _pairs(before: Detections, after: Detections) -> list[tuple[int, int]]:
    """Each detection's counterpart: its very bits, else the box that overlaps most."""
    keys = sorted(before.bits.keys() & after.bits.keys())
    places: dict[tuple[bytes, ...], deque[int]] = defaultdict(deque)
    for j in range(len(after)):
        places[tuple(after.bits[key][j] for key in keys)].append(j)
    pairs, left = [], []
    for i in range(len(before)):
        same = places[tuple(before.bits[key][i] for key in keys)]
        if same:
            pairs.append((i, same.popleft()))
        else:
            left.append(i)
    taken = {j for _, j in pairs}
    right = [j for j in range(len(after)) if j not in taken]
    return pairs + _overlapping(before, after, left, right)


def _overlapping(
    before: Detections, after: Detections, left: list[int], right: list[int]
) -> list[tuple[int, int]]:
    if not left or not right:
        return []
    overlap = _overlap(before.boxes[left], after.boxes[right])
    equal = np.array([[before.labels[i] == after.labels[j] for j in right] for i in left])
    found = np.argwhere(overlap >= _SAME_OBJECT)
    # Same label first, then the larger overlap; then the order, so that it is the same every time.
    ranked = sorted((not equal[i, j], -overlap[i, j], i, j) for i, j in found.tolist())
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in ranked:
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return [(left[i], right[j]) for i, j in pairs.items()]


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other; 1 for boxes that nearly coincide."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        low = np.maximum(a[:, None, :2], b[None, :, :2])
        high = np.minimum(a[:, None, 2:], b[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(2)
        area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
        overlap = shared / (area_a[:, None] + area_b[None] - shared)
        distance = np.abs(a[:, None] - b[None]).max(2)
    # Boxes without an area overlap nothing, not even themselves; and NaN is far from all.
    overlap = np.where(np.isfinite(overlap), overlap, 0.0)
    return np.where(distance <= _SAME_PLACE, 1.0, overlap)


def _longest_increasing(numbers: list[int]) -> int:
    """The length of the longest increasing subsequence: what need not be moved to sort the rest."""
    ends: list[int] = []
    for number in numbers:
        place = bisect_left(ends, number)
        ends[place : place + 1] = [number]
    return len(ends)
