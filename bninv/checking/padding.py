"""What a detector's padding does: images of several sizes, alone and in a batch with larger ones.

A batch is padded to its largest image, so that its neighbours decide what stands around an image
and, where convolutions reach it, its detections. That is what the model computes: a patched model
shows it as well, and `bninv.detection.fixed_size` ends it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from bninv.checking.arrangements import build_batch
from bninv.checking.detections import (
    DetectionRow,
    Detections,
    DetectionTally,
    Padding,
    detections,
    fields_of,
)
from bninv.checking.inputs import call_model, need_samples
from bninv.checking.outputs import CheckError, by_sample
from bninv.checking.runner import Runner
from bninv.detection import Images, fixed_size, is_detector, resized_sizes

# So many images in a batch that each of three shapes is in it.
BATCH_SIZE = 3


class PaddingCheck:
    """Runs the stock and the patched model on images of several sizes; on None it does nothing.

    Raises:
        ValueError: `images` are not two images or more.
    """

    def __init__(self, images: Any, grad_mode: Callable[[], AbstractContextManager[Any]]) -> None:
        self.images = None if images is None else Images(images)
        if self.images is not None:
            need_samples(self.images)
        self.grad_mode = grad_mode
        self.rows: dict[str, DetectionRow] = {}
        self.canvas: tuple[int, int] | None = None

    def stock(self, runner: Runner, model: nn.Module) -> None:
        """Count what changes in the stock model."""
        if self.images is not None:
            with runner.failing("stock", BATCH_SIZE):
                self.rows["stock"] = self._measure(model, self.images)

    def patched(self, runner: Runner, model: nn.Module) -> None:
        """Count what changes in the patched model, and in a copy of it under `fixed_size`."""
        if self.images is None:
            return
        with runner.failing("patched", BATCH_SIZE):
            self.rows["patched"] = self._measure(model, self.images)
            if is_detector(model):
                resized = resized_sizes(model, self.images)
                self.canvas = (max(h for h, _ in resized), max(w for _, w in resized))
                work = fixed_size(copy.deepcopy(model), self.canvas)
                self.rows["fixed"] = self._measure(work, self.images)

    def result(self) -> Padding | None:
        """All of it."""
        if self.images is None:
            return None
        return Padding(
            [(image.shape[-2], image.shape[-1]) for image in self.images],
            BATCH_SIZE,
            self.rows["stock"],
            self.rows["patched"],
            self.canvas,
            self.rows.get("fixed"),
        )

    def _measure(self, model: nn.Module, images: Images) -> DetectionRow:
        alone: list[Detections] = []
        for index in range(len(images)):
            alone += self._run(model, images, [index])
        tally = DetectionTally(BATCH_SIZE)
        for start in range(0, len(images), BATCH_SIZE):
            slots = [(start + position) % len(images) for position in range(BATCH_SIZE)]
            for index, found in zip(slots, self._run(model, images, slots), strict=True):
                tally.add(index, alone[index], found)
        return tally.row()

    def _run(self, model: nn.Module, images: Images, slots: list[int]) -> list[Detections]:
        with self.grad_mode():
            parts, names = by_sample(call_model(model, build_batch(images, slots)), len(slots))
            parts = [[tensor.detach().cpu() for tensor in part] for part in parts]
        keys = fields_of(names)
        if keys is None:
            raise CheckError("images of several sizes are for detectors, which give boxes")
        return [detections(part, keys) for part in parts]
