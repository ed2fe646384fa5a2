"""A RepeatResult as a table for people (rich)."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bninv.checking.detections import DetectionRow
from bninv.checking.repeat import RepeatResult
from bninv.report.detections import changed, worst
from bninv.report.environment import footer

_COLUMNS = ("weights", "inputs", "stock", "patched")
_SHOWN = 12  # hexadecimal digits of a SHA-256: enough to tell a few processes apart


def render(result: RepeatResult) -> RenderableType:
    """The whole report: one row of digests for each process, and a verdict."""
    headline = Text(" ")
    headline.append(result.model, "bold")
    headline.append(f"  {result.dtype} on {result.device}.", "dim")
    headline.append(" Do its bits repeat from process to process?", "dim")
    sizes = ", ".join(map(str, result.batch_sizes))
    legend = Text(f"SHA-256 of all bits; outputs at batch sizes {sizes}.", "dim")
    verdict = [Padding(line, (0, 0, 0, 1)) for line in _verdict(result)]
    lines = [Padding(Text(line, "dim"), (0, 0, 0, 1)) for line in footer(result)]
    table = (_rows(result), Padding(legend, (0, 0, 0, 1)))
    return Group(Text(), headline, *table, Text(), *verdict, Text(), *lines)


def failure(result: RepeatResult) -> str:
    """Why a result has not passed, in one line."""
    return " ".join(line.plain for line in _verdict(result) if "red" in str(line.style))


def _rows(result: RepeatResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 1))
    table.add_column("process", justify="right")
    for what in _COLUMNS:
        outputs = what in ("stock", "patched")
        table.add_column(f"{what}\noutputs" if outputs else what, no_wrap=True)
    first = result.processes[0]
    for number, process in enumerate(result.processes, 1):
        cells = []
        for what in _COLUMNS:
            value = getattr(process, what)
            style = "green" if value == getattr(first, what) else "red"
            cells.append(Text(value[:_SHOWN], style))
        table.add_row(f"{number}", *cells)
    return table


def _verdict(result: RepeatResult) -> list[Text]:
    if result.distinct("weights") > 1:
        text = (
            "The weights differ: processes made different models, because nothing seeded them. "
            "Seed where the model is made (bninv.seed_everything(0)), or load weights. Whether the "
            "outputs repeat cannot be told."
        )
        return [Text(text, "bold red")]
    if result.distinct("inputs") > 1:
        text = "The inputs differ, so whether the outputs repeat cannot be told."
        return [Text(text, "bold red")]
    count = len(result.processes)
    lines = []
    for side, good, bad in (("stock", "", ""), ("patched", "bold green", "bold red")):
        title, different = side.capitalize(), result.distinct(side)
        if different == 1:
            lines.append(Text(f"{title}: the same bits in all {count} processes.", good))
        else:
            text = f"{title}: does NOT repeat, {different} different results in {count} processes."
            lines.append(Text(text, bad))
    return lines + _causes(result)


def _causes(result: RepeatResult) -> list[Text]:
    """Why a detector's labels may change from run to run: each of three causes by itself."""
    found = result.detections
    if found is None:
        return []
    lines = [Text("Why boxes and labels may change from run to run:", "bold")]
    count = len(result.processes)
    lines.append(Text(f"(a) The run: {count} processes with the same weights and batches."))
    lines += _changes(found.processes)
    sizes = ", ".join(map(str, result.batch_sizes))
    lines.append(Text(f"(b) The batch: sizes {sizes}, within one process."))
    lines += _changes(found.batches)
    lines.append(Text("(c) The weights:"))
    if found.unseeded is None:
        lines.append(Text("    loaded: the same in every process.", "green"))
    elif found.unseeded == 1:
        text = "the same in every process without a seed: the model's own code loads or seeds them."
        lines.append(Text(f"    {text}", "green"))
    else:
        text = (
            "random, and the same here because bninv seeded them. Made without a seed, "
            f"{count} processes had {found.unseeded} different models: load weights, or call "
            "bninv.seed_everything(0) before the model is made."
        )
        lines.append(Text(f"    {text}", "yellow"))
    return lines


def _changes(sides: dict[str, list[DetectionRow]]) -> list[Text]:
    lines = []
    for side, rows in sides.items():
        row = worst(rows)
        text = "no image's detections changed" if not row.changed else f"changed in {changed(row)}"
        style = "green" if not row.changed else "yellow" if side == "stock" else "red"
        lines.append(Text(f"    {side}: {text}.", style))
    return lines
