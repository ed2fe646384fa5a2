"""What became of a detector's boxes, in words, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from bninv.checking.detections import Changes, DetectionRow
from bninv.checking.result import CheckResult

_WORDS = {
    "appeared": "appeared",
    "vanished": "vanished",
    "relabelled": "relabelled",
    "moved": "moved",
    "rescored": "rescored",
    "reordered": "in another order",
    "masks": "with another mask",
    "keypoints": "with other keypoints",
}
_ALWAYS = ("appeared", "vanished", "relabelled", "moved", "rescored", "reordered")


def counted(changes: Changes) -> str:
    """The kinds that there are, as `3 boxes appeared, 40 moved`."""
    parts = [f"{n:,} {_WORDS[kind]}" for kind, n in vars(changes).items() if n]
    if not parts:
        return "no box changed"
    number, _, rest = parts[0].partition(" ")
    noun = "box" if number == "1" else "boxes"
    return ", ".join([f"{number} {noun} {rest}", *parts[1:]])


def changed(row: DetectionRow) -> str:
    """A row in words, as `12 of 12 images: 3 boxes appeared`."""
    images = f"{row.changed} of {row.images} images"
    return f"{images}: {counted(row.counts)}" if row.changed else images


def worst(rows: Sequence[DetectionRow]) -> DetectionRow:
    """The row with the most changed images, and the most changes in them."""
    return max(rows, key=lambda row: (row.changed, row.counts.weight))


def columns(result: CheckResult) -> list[str]:
    """The kinds that the table of detections has a column for."""
    rows = [*(result.stock.detections or []), *(result.patched.detections or [])]
    rare = [k for k in ("masks", "keypoints") if any(getattr(row.counts, k) for row in rows)]
    return [*_ALWAYS, *rare]


def table_rows(result: CheckResult) -> Iterator[tuple[str, list[Text]]]:
    """Each side's rows: batch size, images changed, and the counts of `columns`."""
    kinds = columns(result)
    for name, rows in (
        ("stock", result.stock.detections),
        ("patched", result.patched.detections),
    ):
        for row in rows or []:
            images = Text(f"{row.changed} of {row.images}", "red" if row.changed else "green")
            counts = [Text(f"{getattr(row.counts, kind):,}") for kind in kinds]
            yield name, [Text(f"{row.batch_size}"), images, *counts]


def caption(result: CheckResult) -> str:
    """What the table counts."""
    row = (result.patched.detections or [])[0]
    return (
        f"Of {row.detections:,} boxes in {row.images} images, at worst in any arrangement. "
        "Appeared and vanished: no box there overlaps it by half."
    )


def verdict(result: CheckResult) -> Iterator[Text]:
    """Sentences about the detections; none if the model is no detector."""
    stock, patched = result.stock.detections, result.patched.detections
    if stock is None or patched is None:
        return
    if not patched[0].detections:
        text = "The model found nothing in any image: there are no boxes to compare."
        yield Text(text, "bold red")
    for name, rows in (("Stock", stock), ("Patched", patched)):
        row = worst(rows)
        if row.changed:
            style = "bold red" if name == "Patched" else ""
            yield Text(f"{name}: detections changed in {changed(row)}.", style)
        else:
            style = "" if name == "Stock" else "green"
            yield Text(f"{name}: no image's detections changed, nor their order.", style)
    against = result.patched.against_stock
    if against:
        yield Text(f"From stock to patched, by rounding: {counted(against)}.", "dim")
    yield from _padding(result)


def _padding(result: CheckResult) -> Iterator[Text]:
    padding = result.padding
    if padding is None:
        return
    yield Text(
        f"Padding: a batch is padded to its largest image. Images of {_sizes(padding.sizes)} "
        f"(height x width), alone and in batches of {padding.batch_size}:"
    )
    yield Text(f"  stock: detections changed in {changed(padding.stock)}.")
    yield Text(f"  patched: detections changed in {changed(padding.patched)}.")
    if padding.fixed is not None and padding.canvas is not None:
        height, width = padding.canvas
        still = not padding.fixed.changed
        yield Text(
            f"  patched, with bninv.detection.fixed_size(model, ({height}, {width})): "
            + ("none changed." if still else f"changed in {changed(padding.fixed)}."),
            "green" if still else "yellow",
        )
    yield Text("  This is what the model computes, not rounding; it fails nothing.", "dim")


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    words = [f"{height} x {width}" for height, width in dict.fromkeys(sizes)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
