"""Runs the two sides of a check, stock and patched, over the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bninv._structure import map_tensors
from bninv.checking.arrangements import arrangements, build_batch
from bninv.checking.audit import Uncovered, find_uncovered
from bninv.checking.bits import digest
from bninv.checking.blame import Culprit, find_culprits
from bninv.checking.cpu import MOST_SAMPLES, copy_to_cpu
from bninv.checking.depth import DepthRow, measure_depth
from bninv.checking.detections import fields_of
from bninv.checking.deviation import against_stock, deviation
from bninv.checking.inputs import call_model, count, first, sample
from bninv.checking.outputs import CheckError as CheckError
from bninv.checking.outputs import RowTally, by_sample
from bninv.checking.pictures import MOST_PICTURES, Picture, Seen, picture
from bninv.checking.result import CpuSide, PatchedSide, Side, StockSide
from bninv.detection import Images
from bninv.dispatch.modules import mixed_samples, policy_of
from bninv.fusing import fusion
from bninv.precision import arithmetic, emulate

Progress = Callable[[str, int, int], None]


class Runner:
    """Runs both sides over the same batches, and keeps each one's reference outputs."""

    def __init__(
        self,
        inputs: Any,
        sizes: tuple[int, ...],
        grad_mode: Callable[[], AbstractContextManager[Any]],
        progress: Progress | None,
        depth_batch_size: int | None = None,
        labels: Sequence[str] = (),
        pictures: bool = False,
    ) -> None:
        self.inputs = inputs
        self.labels = labels
        self.pictures = pictures
        self.sizes = sizes
        self.depth_batch_size = depth_batch_size
        self.grad_mode = grad_mode
        fills, brief = first(inputs).is_floating_point(), isinstance(inputs, Images)
        self.plans = {
            size: arrangements(size, count(inputs), fills=fills, brief=brief) for size in sizes
        }
        self.blamed = sorted(size for size in set(sizes) if size > min(sizes))
        self.names: list[str] = []  # of the model's outputs
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
        return first(self.inputs).device

    @property
    def on_gpu(self) -> bool:
        """Whether there is a CPU to compare with."""
        return self.device.type == "cuda"

    @property
    def _on_cpu(self) -> int:
        return min(MOST_SAMPLES, count(self.inputs))

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
        for call in mixed_samples(model):
            uncovered.append(Uncovered(call.operator, call.count, call.first))
        self._advance("patched", 2)
        outputs = [tensor for part in self.references["patched"] for tensor in part]
        finite = all(bool(t.isfinite().all()) for t in outputs)
        # An image in which a detector finds nothing is no different from another such.
        telling = [i for i in range(count(self.inputs)) if self._found(i)]
        different_inputs = len({digest(sample(self.inputs, i)) for i in telling})
        distinct = different_inputs > 1 and len({side.digests[i] for i in telling}) >= (
            different_inputs
        )
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
        tally = RowTally(len(slots), reference, self.names)
        digests = []
        # That the CPU cannot run it says nothing against the model.
        try:
            with _same_arithmetic(model, self.device):
                outputs = self._run(copy_to_cpu(model), slots, torch.device("cpu"))
            for index in slots:
                tally.add(index, outputs[index])
                digests.append(digest(outputs[index]))
        except Exception as error:
            reason = "it does not fit the memory" if _out_of_memory(error) else one_line(error)
            return CpuSide(None, reason=reason)
        finally:
            self._advance("patched", len(slots))
        row = tally.row()
        return CpuSide(row.differing == 0, [row], digests)

    def compare_with_stock(self, side: PatchedSide) -> None:
        """Note how far the patched model's outputs are from the stock one's."""
        both = self.references["stock"], self.references["patched"], self.names
        side.deviation = deviation(*both)
        side.against_stock = against_stock(*both)

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
        reference: list[list[Tensor]] = [[] for _ in range(count(self.inputs))]
        self.references[side] = reference
        rows, found = [], []
        seen: dict[int, Seen] = {}
        for size in self.sizes:
            tally = RowTally(size, reference, self.names)
            for slots in self.plans[size]:
                with self.failing(side, size):
                    outputs = self._run(model, slots)
                for position, index in enumerate(slots):
                    if index >= 0:
                        tally.add(index, outputs[position], position)
                self._advance(side, size)
            rows.append(tally.row())
            found.append(tally.detection_row())
            for index, one in tally.seen.items():
                if index not in seen or seen[index].weight < one.weight:
                    seen[index] = one
        digests = [digest(outputs) for outputs in reference]
        invariant = all(row.differing == 0 for row in rows)
        detected = [row for row in found if row is not None]
        drawn = self._drawn(list(seen.values())) if self.pictures else []
        return Side(invariant, rows, digests, self._depth(side, model), detected or None, drawn)

    def _drawn(self, seen: list[Seen]) -> list[Picture]:
        """Pictures of the images with the most changes."""
        seen.sort(key=lambda one: one.weight, reverse=True)
        return [
            picture(one, sample(self.inputs, one.index)[0], self.labels[one.index])
            for one in seen[:MOST_PICTURES]
        ]

    def _found(self, index: int) -> bool:
        """Whether there is anything in what the patched model gave for the sample."""
        keys = fields_of(self.names)
        return keys is None or len(self.references["patched"][index][keys["boxes"]]) > 0

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
    ) -> list[list[Tensor]]:
        """The outputs of the sample at each position of the batch."""
        batch = build_batch(self.inputs, slots)
        if device is not None:
            batch = map_tensors(lambda tensor: tensor.to(device), batch)
        with self.grad_mode():
            output = call_model(model, batch)
            parts, names = by_sample(output, len(slots))
            self.names[:] = names
            return [[tensor.detach().cpu() for tensor in part] for part in parts]

    def _cycle(self, size: int) -> list[int]:
        return [index % count(self.inputs) for index in range(size)]

    def _advance(self, side: str, amount: int) -> None:
        self._done += amount
        if self._progress is not None:
            self._progress(side, min(self._done, self._total), self._total)


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


def _same_arithmetic(model: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    """For a CPU: what 'tensor' means on the device that the model has run on."""
    policy = policy_of(model)
    if policy is None or policy.precision != "tensor":
        return nullcontext()
    return emulate(arithmetic(device))  # type: ignore[arg-type]
