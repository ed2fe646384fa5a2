"""What bninv.check finds: rows for each batch size, culprits, uncovered operators."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bninv._version import CONTRACT_VERSION
from bninv.checking.audit import Uncovered
from bninv.checking.blame import Culprit
from bninv.checking.depth import DepthRow
from bninv.checking.detections import Changes, DetectionRow, Padding
from bninv.checking.pictures import Picture
from bninv.fusing import Fusion


@dataclass
class OutputRow:
    """What became of one of a model's outputs, of every sample: the numbers of a `Row`."""

    name: str
    differing: int
    elements: int
    max_abs: float
    max_ulp: int | None


@dataclass
class Row:
    """What became of every sample's output at one batch size, compared with the reference.

    An output element counts as differing if its bits were others in any arrangement. `max_abs` is
    infinite and `max_ulp` None where a number stands against a NaN, and where a detector found more
    or less: all of that image's elements differ then. `top1_changed` counts samples
    whose largest output moved to another class; None if no output has shape (batch, classes).
    `outputs` are the model's tensors one by one, if it gives several.
    """

    batch_size: int
    differing: int
    elements: int
    max_abs: float
    max_ulp: int | None
    top1_changed: int | None
    outputs: list[OutputRow] = field(default_factory=list)


@dataclass
class Side:
    """One model, stock or patched: its rows, and the SHA-256 of each sample's reference bits.

    `depth` has a row for every module called, if `check` was asked for it. `detections` has one for
    every batch size, if the model is a detector, and `pictures` show some of them, if asked for.
    """

    invariant: bool
    rows: list[Row]
    digests: list[str]
    depth: list[DepthRow] | None = None
    detections: list[DetectionRow] | None = None
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class StockSide(Side):
    """The stock model, and the operators in it that moved bits when given identical inputs."""

    culprits: list[Culprit] = field(default_factory=list)


@dataclass
class TensorCores:
    """Of a model patched for them: the word `precision`, the class of arithmetic that it meant, and
    how many convolutions and linear layers there are, with those that R9 does not reach.
    """

    precision: str
    arithmetic: str
    layers: int
    left_out: list[str]


@dataclass
class PatchedSide(Side):
    """The patched model, the operators in it that nothing vouches for, and its soundness.

    `fusion` says how many of its calls run as fewer operators. `against_stock` counts what changed
    from the stock model's detections to these, which rounding may; None if it is no detector.
    """

    uncovered: list[Uncovered] = field(default_factory=list)
    finite: bool = True
    distinct: bool = True
    deviation: float = 0.0
    fusion: Fusion = field(default_factory=Fusion)
    tensor_cores: TensorCores | None = None
    against_stock: Changes | None = None


@dataclass
class CpuSide:
    """The patched model on the CPU, compared with what it gave on the GPU.

    One row, of some of the samples in one batch: its `batch_size` says how many. `equal` is None,
    and `reason` says why, if the CPU could not run the model.
    """

    equal: bool | None
    rows: list[Row] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass
class CheckResult:
    """What `bninv.check` found. Prints as a table; `to_json()` is for machines.

    `padding` is there if images of several sizes were given: what it shows fails nothing. `weights`
    says where the model's are from, and `command` how the check was called; both are empty where
    nobody can tell, as after a call from Python.
    """

    model: str
    device: str
    dtype: str
    batch_sizes: tuple[int, ...]
    samples: list[str]
    stock: StockSide
    patched: PatchedSide
    notes: list[str] = field(default_factory=list)
    depth_batch_size: int | None = None
    cpu: CpuSide | None = None
    weights: str = ""
    command: str = ""
    padding: Padding | None = None

    @property
    def invariant(self) -> bool:
        """Whether no bit of the patched model's outputs ever moved."""
        return self.patched.invariant

    @property
    def rows(self) -> list[Row]:
        """The patched model's rows; the stock model's are `result.stock.rows`."""
        return self.patched.rows

    @property
    def culprits(self) -> list[Culprit]:
        """The stock model's operators that moved bits when given identical inputs."""
        return self.stock.culprits

    @property
    def uncovered(self) -> list[Uncovered]:
        """The patched model's operators that are neither bninv's nor known to be exact."""
        return self.patched.uncovered

    @property
    def equals_cpu(self) -> bool | None:
        """Whether the patched model has the same bits on the CPU; None if that was not compared."""
        return self.cpu.equal if self.cpu is not None else None

    @property
    def passed(self) -> bool:
        """Invariant, nothing uncovered, and outputs that are finite and differ between samples.

        From a GPU they must also have the bits of the CPU, where that could run the model.
        """
        side = self.patched
        sound = side.invariant and not side.uncovered and side.finite and side.distinct
        return sound and self.equals_cpu is not False

    def to_dict(self) -> dict[str, Any]:
        """The result as plain dicts, lists, strings and numbers; infinities become None."""
        body = asdict(self)
        for name in ("cpu", "padding"):
            if body[name] is None:
                del body[name]
        for name in ("weights", "command"):
            if not body[name]:
                del body[name]
        for side in (body["stock"], body["patched"], body.get("cpu", {})):
            for row in side.get("rows", []):
                for numbers in (row, *row["outputs"]):
                    numbers["max_abs"] = _finite(numbers["max_abs"])
                if not row["outputs"]:
                    del row["outputs"]
        for side in (body["stock"], body["patched"]):
            del side["pictures"]  # for people
            for row in side["depth"] or []:
                row["max_rel"] = _finite(row["max_rel"])
            for name in ("depth", "detections", "against_stock", "tensor_cores"):
                if name in side and side[name] is None:
                    del side[name]
        body["patched"]["deviation"] = _finite(body["patched"]["deviation"])
        if self.depth_batch_size is None:
            del body["depth_batch_size"]
        body["batch_sizes"] = list(self.batch_sizes)
        head = {name: body.pop(name) for name in ("model", "device", "dtype")}
        head["contract_version"] = CONTRACT_VERSION
        return {**head, "passed": self.passed, **body}

    def to_json(self, indent: int | None = 2) -> str:
        """The result as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_html(self) -> str:
        """The result as one page that needs nothing from outside; plots `depth` where it is."""
        from bninv.report.page import to_html

        return to_html(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from bninv.report.table import render

        yield render(self, options.max_width)

    def __str__(self) -> str:
        from bninv.report.terminal import to_text

        return to_text(self)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
