"""Do a model's bits repeat from process to process, before and after patching?

Digests of the weights and inputs tell what repeats from what was the same to begin with: a model
whose weights nothing seeded is another model in every process.
"""

from __future__ import annotations

import copy
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn

from bninv._structure import tensors
from bninv._version import CONTRACT_VERSION
from bninv.checking.arrangements import build_batch
from bninv.checking.bits import digest
from bninv.checking.detections import Detections, detections, fields_of
from bninv.checking.inputs import as_samples, call_model, count
from bninv.checking.outputs import by_sample
from bninv.checking.repeat_detections import Found, RepeatDetections
from bninv.checking.runner import CheckError, Progress, one_line
from bninv.modules.base import Patched
from bninv.patching import patch, unpatch


@dataclass(frozen=True)
class Digests:
    """SHA-256 of what one process had (weights, inputs) and of what it gave (stock, patched)."""

    weights: str
    inputs: str
    stock: str
    patched: str


@dataclass
class RepeatResult:
    """What several fresh processes gave. Prints as a table; `to_dict()` is for machines."""

    model: str
    device: str
    dtype: str
    batch_sizes: tuple[int, ...]
    processes: list[Digests]
    weights: str = ""
    command: str = ""
    detections: RepeatDetections | None = None

    def distinct(self, what: str) -> int:
        """How many different digests there are of "weights", "inputs", "stock" or "patched"."""
        return len({getattr(process, what) for process in self.processes})

    @property
    def passed(self) -> bool:
        """Whether the patched model, the same in every process, gave the same bits in each."""
        return all(self.distinct(what) == 1 for what in ("weights", "inputs", "patched"))

    def to_dict(self) -> dict[str, Any]:
        """The result as plain dicts, lists, strings and numbers."""
        return {
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "contract_version": CONTRACT_VERSION,
            "passed": self.passed,
            "batch_sizes": list(self.batch_sizes),
            "repeats": {f.name: self.distinct(f.name) == 1 for f in fields(Digests)},
            "processes": [asdict(process) for process in self.processes],
            **({} if self.detections is None else {"detections": asdict(self.detections)}),
            **{name: text for name in ("weights", "command") if (text := getattr(self, name))},
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The result as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from bninv.report.repeat import render

        yield render(self)

    def __str__(self) -> str:
        from bninv.report.terminal import to_text

        return to_text(self)


def digests(
    model: nn.Module,
    inputs: Any,
    batch_sizes: tuple[int, ...],
    grad_mode: Callable[[], AbstractContextManager[Any]] = torch.no_grad,
    found: Found | None = None,
) -> Digests:
    """Run a copy of `model`, stock and patched, on all of `inputs` at each batch size.

    A detector's detections are put into `found`, if that is given.

    Raises:
        CheckError: the model cannot be run.
    """
    work = copy.deepcopy(model).eval()
    # As in check: what is patched already is taken as it is.
    patched_already = any(isinstance(module, Patched) for module in work.modules())
    weights = digest_of_weights(work)
    inputs = as_samples(work, inputs)
    given: Found = {} if found is None else found

    def outputs(side: str, model: nn.Module) -> str:
        return _outputs(side, model, inputs, batch_sizes, grad_mode, given.setdefault(side, {}))

    if patched_already:
        patched = outputs("patched", work)
        stock = outputs("stock", unpatch(work))
    else:
        stock = outputs("stock", work)
        patched = outputs("patched", patch(work))
    return Digests(weights, digest(tensors(inputs)), stock, patched)


def in_fresh_processes(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    count: int,
    progress: Progress | None = None,
) -> list[Any]:
    """Call `function`, which must be importable, in `count` new interpreters, one after another.

    One after another, because each is to have all of the machine's threads, as a run would.

    Raises:
        CheckError: a process ended before it answered. What `function` raises is raised here.
    """
    results = []
    for number in range(count):
        if progress is not None:
            progress(str(number + 1), number, count)
        # Interrupted from the keyboard, the process ends without a traceback of its own.
        with ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_DFL),
        ) as pool:
            try:
                results.append(pool.submit(function, *arguments).result())
            except BrokenProcessPool as error:
                raise CheckError(
                    f"process {number + 1} of {count} ended before it answered (killed, for lack "
                    "of memory perhaps, or crashed)"
                ) from error
    return results


def digest_of_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers."""
    total = hashlib.sha256()
    # A patched model lays weights out anew; the digest is of values in order, not of memory.
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            total.update(f"{name} {digest([tensor.detach()])} ".encode())
    return total.hexdigest()


def _outputs(
    side: str,
    model: nn.Module,
    inputs: Any,
    batch_sizes: tuple[int, ...],
    grad_mode: Callable[[], AbstractContextManager[Any]],
    detected: dict[int, list[Detections]],
) -> str:
    total = hashlib.sha256()
    for size in batch_sizes:
        for start in range(0, count(inputs), size):
            slots = [index % count(inputs) for index in range(start, start + size)]
            try:
                with grad_mode():
                    output = call_model(model, build_batch(inputs, slots))
                    found = [tensor.detach() for tensor in tensors(output)]
                    _note(output, slots, count(inputs) - start, detected.setdefault(size, []))
            except Exception as error:
                text = one_line(error)
                raise CheckError(f"the {side} model failed at batch size {size}: {text}") from error
            total.update(digest(found).encode())
    return total.hexdigest()


def _note(output: Any, slots: list[int], most: int, detected: list[Detections]) -> None:
    """Keep what a detector found in the batch's first images, `most` at most."""
    try:
        parts, names = by_sample(output, len(slots))
    except ValueError:
        return  # some other model's: its bits say enough
    keys = fields_of(names)
    if keys is not None:
        for part in parts[:most]:
            detected.append(detections([tensor.detach().cpu() for tensor in part], keys))
