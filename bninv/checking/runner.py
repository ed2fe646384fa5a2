"""Runs the two sides of a check, stock and patched, over the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bninv.checking.arrangements import arrangements, build_batch
from bninv.checking.audit import find_uncovered
from bninv.checking.bits import difference, digest, leaves
from bninv.checking.blame import Culprit, find_culprits
from bninv.checking.cpu import MOST_SAMPLES, copy_to_cpu
from bninv.checking.depth import DepthRow, measure_depth
from bninv.checking.result import CpuSide, PatchedSide, Row, Side, StockSide
from bninv.fusing import fusion

Progress = Callable[[str, int, int], None]


class CheckError(RuntimeError):
    """The model could not be run: which side, at which batch size, and the cause in one line."""


class Runner:
    """Runs both sides over the same batches, and keeps each one's reference outputs."""

    def __init__(
        self,
        inputs: Tensor,
        sizes: tuple[int, ...],
        grad_mode: Callable[[], AbstractContextManager[Any]],
        progress: Progress | None,
        depth_batch_size: int | None = None,
    ) -> None:
        self.inputs = inputs
        self.sizes = sizes
        self.depth_batch_size = depth_batch_size
        self.grad_mode = grad_mode
        self.plans = {
            size: arrangements(size, len(inputs), fills=inputs.is_floating_point())
            for size in sizes
        }
        self.blamed = sorted(size for size in set(sizes) if size > min(sizes))
        self.references: dict[str, list[list[Tensor]]] = {}
        self._progress = progress
        self._done = 0
        self._total = 2 * sum(map(sum, [[len(s) for s in p] for p in self.plans.values()]))
        self._total += 2 * sum(self.blamed) + 2
        if self.on_gpu:
            self._total += self._on_cpu
        if depth_batch_size is not None:
            self._total += 2 * (1 + depth_batch_size)

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def on_gpu(self) -> bool:
        """Whether there is a CPU to compare with."""
        return self.device.type == "cuda"

    @property
    def _on_cpu(self) -> int:
        return min(MOST_SAMPLES, len(self.inputs))

    def stock(self, model: nn.Module) -> StockSide:
        side = self._rows("stock", model)
        culprits: list[Culprit] = []
        if self.blamed:
            batches = [build_batch(self.inputs, self._cycle(size)) for size in self.blamed]
            with self.failing("stock", self.blamed[-1]):
                culprits = find_culprits(model, batches, min(self.sizes))
            self._advance("stock", 2 * sum(self.blamed))
        return StockSide(**vars(side), culprits=culprits)

    def patched(self, model: nn.Module) -> PatchedSide:
        side = self._rows("patched", model)
        with self.failing("patched", 2):
            uncovered = find_uncovered(model, build_batch(self.inputs, self._cycle(2)))
        self._advance("patched", 2)
        outputs = [tensor for sample in self.references["patched"] for tensor in sample]
        finite = all(bool(t.isfinite().all()) for t in outputs)
        different_inputs = len({digest([sample]) for sample in self.inputs})
        distinct = different_inputs > 1 and len(set(side.digests)) >= different_inputs
        return PatchedSide(
            **vars(side),
            uncovered=uncovered,
            finite=finite,
            distinct=distinct,
            fusion=fusion(model),
        )

    def cpu(self, model: nn.Module) -> CpuSide:
        """A copy of the patched model, which has run on the GPU, on the CPU."""
        reference = self.references["patched"]
        slots = list(range(self._on_cpu))
        tally = _RowTally(len(slots), reference)
        digests = []
        # That the CPU cannot run it says nothing against the model.
        try:
            outputs = self._run(copy_to_cpu(model), slots, torch.device("cpu"))
            for index in slots:
                sample = [tensor[index] for tensor in outputs]
                tally.add(index, sample)
                digests.append(digest(sample))
        except Exception as error:
            reason = "it does not fit the memory" if _out_of_memory(error) else one_line(error)
            return CpuSide(None, reason=reason)
        finally:
            self._advance("patched", len(slots))
        row = tally.row()
        return CpuSide(row.differing == 0, [row], digests)

    def deviation(self) -> float:
        """The largest |patched - stock|, relative to the largest |stock| of the same output."""
        worst = 0.0
        for stock, patched in zip(*(self.references[s] for s in ("stock", "patched")), strict=True):
            for a, b in zip(stock, patched, strict=True):
                if a.numel():
                    a, b = a.to(torch.float64), b.to(torch.float64)
                    scale = max(float(a.abs().max()), torch.finfo(torch.float32).tiny)
                    distance = float((a - b).abs().max()) / scale
                    worst = max(worst, math.inf if math.isnan(distance) else distance)
        return worst

    @contextmanager
    def failing(self, side: str, size: int) -> Iterator[None]:
        """Turn whatever a model raises into a CheckError that says where."""
        where = f"the {side} model failed at batch size {size}" if size else f"{side} failed"
        try:
            yield
        except CheckError:
            raise
        except Exception as error:
            if _out_of_memory(error):
                raise CheckError(f"out of memory: {where}; try smaller batch sizes") from error
            raise CheckError(f"{where}: {one_line(error)}") from error

    def _rows(self, side: str, model: nn.Module) -> Side:
        reference: list[list[Tensor]] = [[] for _ in range(len(self.inputs))]
        self.references[side] = reference
        rows = []
        for size in self.sizes:
            tally = _RowTally(size, reference)
            for slots in self.plans[size]:
                with self.failing(side, size):
                    outputs = self._run(model, slots)
                for position, index in enumerate(slots):
                    if index >= 0:
                        tally.add(index, [tensor[position] for tensor in outputs])
                self._advance(side, size)
            rows.append(tally.row())
        digests = [digest(sample) for sample in reference]
        invariant = all(row.differing == 0 for row in rows)
        return Side(invariant, rows, digests, self._depth(side, model))

    def _depth(self, side: str, model: nn.Module) -> list[DepthRow] | None:
        size = self.depth_batch_size
        if size is None:
            return None
        with self.failing(side, size):
            rows = measure_depth(model, self.inputs, size, self.grad_mode)
        self._advance(side, 1 + size)
        return rows

    def _run(
        self, model: nn.Module, slots: list[int], device: torch.device | None = None
    ) -> list[Tensor]:
        batch = build_batch(self.inputs, slots)
        if device is not None:
            batch = batch.to(device)
        with self.grad_mode():
            output = model(batch)
            found = [(path, tensor.detach().cpu()) for path, tensor in leaves(output)]
        if not found:
            raise ValueError(f"it returned {type(output).__name__}, which holds no tensors")
        for path, tensor in found:
            if tensor.dim() == 0 or tensor.shape[0] != len(slots):
                raise ValueError(
                    f"{path} has shape {tuple(tensor.shape)}; "
                    f"its first dimension must be the batch ({len(slots)})"
                )
        return [tensor for _, tensor in found]

    def _cycle(self, size: int) -> list[int]:
        return [index % len(self.inputs) for index in range(size)]

    def _advance(self, side: str, amount: int) -> None:
        self._done += amount
        if self._progress is not None:
            self._progress(side, min(self._done, self._total), self._total)


class _RowTally:
    """Collects, over all arrangements of one batch size, what differs from the reference."""

    def __init__(self, batch_size: int, reference: list[list[Tensor]]) -> None:
        self.batch_size = batch_size
        self.reference = reference
        self.moved: dict[tuple[int, int], Any] = {}
        self.changed: set[int] = set()
        self.max_abs = 0.0
        self.max_ulp: int | None = 0

    def add(self, index: int, outputs: list[Tensor]) -> None:
        if not self.reference[index]:
            self.reference[index] = [tensor.clone() for tensor in outputs]
        expected = self.reference[index]
        if [(t.shape, t.dtype) for t in outputs] != [(t.shape, t.dtype) for t in expected]:
            raise CheckError(f"batch size {self.batch_size} changes the shape of an output")
        for number, (want, got) in enumerate(zip(expected, outputs, strict=True)):
            found = difference(want, got)
            seen = self.moved.get((index, number))
            self.moved[index, number] = found.moved if seen is None else seen | found.moved
            self.max_abs = max(self.max_abs, found.max_abs)
            if found.max_ulp is None or self.max_ulp is None:
                self.max_ulp = None
            else:
                self.max_ulp = max(self.max_ulp, found.max_ulp)
        before, after = _scores(expected), _scores(outputs)
        if before is not None and after is not None and before.argmax() != after.argmax():
            self.changed.add(index)

    def row(self) -> Row:
        return Row(
            self.batch_size,
            sum(int(mask.sum()) for mask in self.moved.values()),
            sum(mask.size for mask in self.moved.values()),
            self.max_abs,
            self.max_ulp,
            None if _scores(self.reference[0]) is None else len(self.changed),
        )


def _scores(outputs: list[Tensor]) -> Tensor | None:
    """The first output with one score for each class: (classes,) for one sample."""
    return next((t for t in outputs if t.dim() == 1 and t.is_floating_point() and len(t)), None)


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
