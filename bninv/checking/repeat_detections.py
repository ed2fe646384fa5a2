"""Why a detector's labels change from run to run: which of the three causes it is.

A run may not repeat itself; a result may depend on the batch, which is another one in another run;
or the weights are others, because nothing loaded or seeded them. Each is measured by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bninv.checking.detections import DetectionRow, Detections, DetectionTally

# What one process found: by side and batch size, the detections of every image.
Found = dict[str, dict[int, list[Detections]]]
SIDES = ("stock", "patched")


@dataclass
class RepeatDetections:
    """What became of a detector's boxes, by side, with a row for every batch size.

    `processes` compares every process with the first, of the same weights; `batches` every batch
    size with the first one, in the first process. `unseeded` is how many different models the
    processes made without a seed; None if the weights were loaded.
    """

    processes: dict[str, list[DetectionRow]]
    batches: dict[str, list[DetectionRow]]
    unseeded: int | None = None


def summarize(found: list[Found], unseeded: list[str]) -> RepeatDetections | None:
    """Compare what the processes found; None if the model is no detector.

    Args:
        found: by process.
        unseeded: digests of the weights that each process drew without a seed; empty if none did.
    """
    if not all(any(process.get(side, {}).values()) for process in found for side in SIDES):
        return None
    processes: dict[str, list[DetectionRow]] = {}
    batches: dict[str, list[DetectionRow]] = {}
    for side in SIDES:
        first = found[0][side]
        reference = next(iter(first.values()))
        others = [process[side] for process in found[1:]]
        processes[side] = [
            _row(size, first[size], [other[size] for other in others]) for size in first
        ]
        batches[side] = [_row(size, reference, [first[size]]) for size in first]
    return RepeatDetections(processes, batches, len(set(unseeded)) if unseeded else None)


def _row(size: int, reference: list[Detections], others: list[Any]) -> DetectionRow:
    tally = DetectionTally(size)
    for other in others:
        for index, (before, after) in enumerate(zip(reference, other, strict=True)):
            tally.add(index, before, after)
    return tally.row()
