"""A model's outputs: each sample's part of them, and what became of it from batch to batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from bninv._structure import leaves
from bninv.checking.bits import Difference, difference
from bninv.checking.detections import DetectionRow, DetectionTally, detections, fields_of
from bninv.checking.pictures import Seen
from bninv.checking.result import OutputRow, Row


class CheckError(RuntimeError):
    """The model could not be run: which side, at which batch size, and the cause in one line."""


def by_sample(output: Any, batch: int) -> tuple[list[list[Tensor]], list[str]]:
    """The tensors that belong to each of `batch` samples, and what they are called.

    Raises:
        ValueError: there are none, or it cannot be told to which sample they belong.
    """
    found = list(leaves(output))
    if not found:
        raise ValueError(f"it returned {type(output).__name__}, which holds no tensors")
    if _is_listed(output, batch):
        named = [list(leaves(item, "output[i]")) for item in output]
        return [[t for _, t in part] for part in named], [path for path, _ in named[0]]
    for path, tensor in found:
        if tensor.dim() == 0 or tensor.shape[0] != batch:
            raise ValueError(
                f"{path} has shape {tuple(tensor.shape)}; "
                f"its first dimension must be the batch ({batch})"
            )
    parts = [[tensor[index] for _, tensor in found] for index in range(batch)]
    return parts, [path for path, _ in found]


def _is_listed(output: Any, batch: int) -> bool:
    """Whether it is a list with a mapping for each sample, as detectors give."""
    return (
        isinstance(output, list)
        and len(output) == batch
        and all(isinstance(item, Mapping) for item in output)
    )


class _Tally:
    """What differs from the reference in one output, or in all."""

    def __init__(self) -> None:
        self.max_abs = 0.0
        self.max_ulp: int | None = 0

    def add(self, max_abs: float, max_ulp: int | None) -> None:
        self.max_abs = max(self.max_abs, max_abs)
        if max_ulp is None or self.max_ulp is None:
            self.max_ulp = None
        else:
            self.max_ulp = max(self.max_ulp, max_ulp)


class RowTally:
    """Collects, over all arrangements of one batch size, what differs from the reference.

    Args:
        batch_size: of the row.
        reference: the first outputs of every sample, filled in as they come.
        names: of the outputs; read when the row is made.
    """

    def __init__(self, batch_size: int, reference: list[list[Tensor]], names: list[str]) -> None:
        self.batch_size = batch_size
        self.reference = reference
        self.names = names
        self.moved: dict[tuple[int, int], np.ndarray] = {}
        self.changed: set[int] = set()
        self.outputs: dict[int, _Tally] = {}
        self.detections = DetectionTally(batch_size)
        self.seen: dict[int, Seen] = {}

    def add(self, index: int, outputs: list[Tensor], position: int = 0) -> None:
        """Compare what sample `index` gave, at `position` of a batch."""
        if not self.reference[index]:
            self.reference[index] = [tensor.clone() for tensor in outputs]
        expected = self.reference[index]
        keys = fields_of(self.names)
        # A detector may find more, or less: that is counted.
        form = _form if keys is None else _form_of_one
        if [form(t) for t in outputs] != [form(t) for t in expected]:
            raise CheckError(f"batch size {self.batch_size} changes the shape of an output")
        still = True
        for number, (want, got) in enumerate(zip(expected, outputs, strict=True)):
            found = difference(want, got) if want.shape == got.shape else _all_of(want, got)
            still = still and not found.moved.any()
            seen = self.moved.get((index, number))
            self.moved[index, number] = _either(seen, found.moved)
            self.outputs.setdefault(number, _Tally()).add(found.max_abs, found.max_ulp)
        if keys is not None:
            now = None if still else detections(outputs, keys)
            before = detections(expected, keys)
            weight = self.detections.add(index, before, now).weight
            if now is not None and (index not in self.seen or self.seen[index].weight < weight):
                self.seen[index] = Seen(index, self.batch_size, position, before, now, weight)
            return
        first, second = _scores(expected), _scores(outputs)
        if first is not None and second is not None and first.argmax() != second.argmax():
            self.changed.add(index)

    def row(self) -> Row:
        """All of it."""
        rows = [self._output(number) for number in sorted(self.outputs)]
        whole = _Tally()
        for row in rows:
            whole.add(row.max_abs, row.max_ulp)
        return Row(
            self.batch_size,
            sum(row.differing for row in rows),
            sum(row.elements for row in rows),
            whole.max_abs,
            whole.max_ulp,
            None if not self._has_classes() else len(self.changed),
            rows if len(rows) > 1 else [],
        )

    def detection_row(self) -> DetectionRow | None:
        """What became of the detections; None if the model is no detector."""
        return None if fields_of(self.names) is None else self.detections.row()

    def _has_classes(self) -> bool:
        return fields_of(self.names) is None and _scores(self.reference[0]) is not None

    def _output(self, number: int) -> OutputRow:
        masks = [mask for (_, of), mask in self.moved.items() if of == number]
        tally = self.outputs[number]
        return OutputRow(
            self.names[number] if number < len(self.names) else f"output {number}",
            sum(int(mask.sum()) for mask in masks),
            sum(mask.size for mask in masks),
            tally.max_abs,
            tally.max_ulp,
        )


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype


def _form_of_one(tensor: Tensor) -> tuple[Any, ...]:
    """Of one detection: how many there are says nothing."""
    return tensor.shape[1:], tensor.dtype


def _all_of(want: Tensor, got: Tensor) -> Difference:
    """Of another number of detections every element counts, and no distance can be told."""
    return Difference(np.ones(want.shape if want.numel() else got.shape, bool), math.inf, None)


def _either(seen: np.ndarray | None, moved: np.ndarray) -> np.ndarray:
    if seen is None:
        return moved
    if seen.shape == moved.shape:
        return seen | moved
    # Where nothing was found at first.
    return max(seen, moved, key=lambda mask: mask.size)


def _scores(outputs: list[Tensor]) -> Tensor | None:
    """The first output with one score for each class: (classes,) for one sample."""
    return next((t for t in outputs if t.dim() == 1 and t.is_floating_point() and len(t)), None)
