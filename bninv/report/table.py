"""A CheckResult as a table for people (rich)."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bninv.checking.audit import Uncovered
from bninv.checking.blame import Culprit
from bninv.checking.result import CheckResult
from bninv.report import detections
from bninv.report.environment import footer
from bninv.report.terminal import FILE_WIDTH
from bninv.report.wording import cells, familiar, legend, module_name, outputs, sides, verdict

# Below this width the table leaves the column of ulps out.
_NARROW = 78
# A line of the model's code is cut after this many characters; JSON and HTML have all of it.
_LONGEST_CODE = 100


def render(result: CheckResult, width: int = FILE_WIDTH) -> RenderableType:
    """The whole report: the table of rows, the culprits, what is uncovered, and a verdict."""
    parts: list[RenderableType] = [
        Text(),
        _headline(result),
        _rows(result, width),
        _legend(result, width),
    ]
    if result.patched.detections is not None:
        parts += [Text(), _detections(result)]
    if outputs(result):
        parts += [Text(), _outputs(result)]
    if result.stock.culprits:
        parts += [Text(), _culprits(result)]
    if result.uncovered:
        parts += [Text(), _uncovered(result)]
    parts += [Text()]
    parts += [Padding(line, (0, 0, 0, 1)) for line in verdict(result)]
    parts += [Text()]
    parts += [Padding(Text(line, "dim"), (0, 0, 0, 1)) for line in footer(result)]
    return Group(*parts)


def _headline(result: CheckResult) -> Text:
    text = Text(" ")
    text.append(result.model, "bold")
    text.append(f"  {result.dtype} on {result.device}, {len(result.samples)} samples.", "dim")
    text.append(" Does a sample's output depend on its batch?", "dim")
    return text


def _rows(result: CheckResult, width: int) -> Table:
    narrow = width < _NARROW
    padding = (0, 1) if narrow else (0, 2, 0, 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding)
    table.add_column("model", no_wrap=True)
    table.add_column("batch\nsize", justify="right")
    table.add_column("outputs with\nother bits", justify="right", no_wrap=True)
    table.add_column("largest\ndifference", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("the same\nin ulp", justify="right", no_wrap=True)
    table.add_column("top-1\nchanges", justify="right")
    for title, rows in sides(result):
        # Broken, so that the column stays as narrow as it is without a GPU.
        title = title.replace(" on", "\non")
        for index, row in enumerate(rows):
            line = [Text(title if index == 0 else "", "bold"), *cells(row)]
            if narrow:
                del line[4]
            table.add_row(*line)
        table.add_section()
    return table


def _legend(result: CheckResult, width: int) -> RenderableType:
    text = legend(result)
    if width >= _NARROW:
        text += f" One ulp is the step to the next {result.dtype} number."
    return Padding(Text(text, "dim"), (0, 0, 0, 1))


def _detections(result: CheckResult) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 1))
    table.add_column("model", no_wrap=True)
    for heading in ("batch\nsize", "images\nchanged", *detections.columns(result)):
        table.add_column(heading, justify="right")
    last = ""
    for name, texts in detections.table_rows(result):
        table.add_row(Text("" if name == last else name, "bold"), *texts)
        last = name
    title = Text(" Detections that changed:", "bold")
    legend = Padding(Text(detections.caption(result), "dim"), (0, 0, 0, 1))
    return Group(title, Padding(table, (0, 0, 0, 1)), legend)


def _outputs(result: CheckResult) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1))
    table.add_column("output", overflow="fold")
    for side in ("stock", "patched"):
        table.add_column(f"{side}:\nother bits", justify="right", no_wrap=True)
        table.add_column("largest\ndifference", justify="right", no_wrap=True)
    for name, texts in outputs(result):
        table.add_row(Text(name), *texts)  # not a string, of which rich would read [i] as markup
    title = " Each output by itself, at the batch size where it moved most:"
    return Group(Text(title, "bold"), Padding(table, (0, 0, 0, 1)))


def _culprits(result: CheckResult) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), show_header=True)
    table.add_column("operator", no_wrap=True, overflow="fold")
    table.add_column("calls that moved", justify="right", no_wrap=True)
    table.add_column("first in", overflow="fold")
    for culprit in result.stock.culprits:
        calls = f"{culprit.moved} of {culprit.total}"
        table.add_row(familiar(culprit.kind), calls, _first(culprit))
    title = " In the stock model, these operators gave other bits when handed identical inputs:"
    return Group(Text(title, "bold"), Padding(table, (0, 0, 0, 1)))


def _uncovered(result: CheckResult) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1))
    table.add_column("operator", no_wrap=True)
    table.add_column("calls", justify="right")
    table.add_column("first in", overflow="fold")
    for entry in result.uncovered:
        table.add_row(entry.operator, f"{entry.count}", _first(entry))
    title = " In the patched model, these operators are PyTorch's own and not known to be exact:"
    return Group(Text(title, "bold"), Padding(table, (0, 0, 0, 1)))


def _first(entry: Culprit | Uncovered) -> Text:
    """The module of the first call, and below it the line of the model's code."""
    text = Text(module_name(entry.first))
    if entry.line:
        code = entry.code if len(entry.code) <= _LONGEST_CODE else entry.code[:_LONGEST_CODE] + "…"
        text.append(f"\n{entry.line}  {code}", "dim")
    return text
