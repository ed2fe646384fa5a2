"""A CheckResult as a table for people, and the progress bar (rich)."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bninv.checking.audit import Uncovered
from bninv.checking.blame import Culprit
from bninv.checking.result import CheckResult, Row, Side

# Where the output is no terminal there is no width to fit: enough for every column on one line.
_FILE_WIDTH = 96
# Relative to the largest output. Rounding in float32 gives 1e-6 in a shallow model, 1e-4 in a deep.
_MOST_ROUNDING = 1e-3
# What a user knows these operators as.
_FAMILIAR = {"addmm": " (linear)", "mm": " (linear)", "bmm": " (matmul)"}
# Below this width the table leaves the column of ulps out.
_NARROW = 78
# A line of the model's code is cut after this many characters; JSON and HTML have all of it.
_LONGEST_CODE = 100


def console(*, stderr: bool = False) -> Console:
    """The console reports go to; colours and boxes only where they can be shown."""
    out = Console(stderr=stderr, highlight=False)
    if not out.is_terminal:
        out = Console(stderr=stderr, highlight=False, width=_FILE_WIDTH, no_color=True)
    return out


def to_text(result: RenderableType) -> str:
    """The report without colours, 96 columns wide."""
    buffer = io.StringIO()
    Console(file=buffer, width=_FILE_WIDTH, no_color=True, highlight=False).print(result)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def render(result: CheckResult, width: int = _FILE_WIDTH) -> RenderableType:
    """The whole report: the table of rows, the culprits, what is uncovered, and a verdict."""
    parts: list[RenderableType] = [
        Text(),
        _headline(result),
        _rows(result, width),
        _legend(result, width),
    ]
    if result.stock.culprits:
        parts += [Text(), _culprits(result)]
    if result.uncovered:
        parts += [Text(), _uncovered(result)]
    parts += [Text()]
    parts += [Padding(line, (0, 0, 0, 1)) for line in verdict(result)]
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


def sides(result: CheckResult) -> list[tuple[str, list[Row]]]:
    """The parts of the table: what ran, and its rows."""
    found = [("stock", result.stock.rows), ("patched", result.patched.rows)]
    if result.cpu is not None and result.cpu.rows:
        found.append(("patched on the CPU", result.cpu.rows))
    return found


def legend(result: CheckResult) -> str:
    """What the table's rows count, but for the unit."""
    text = (
        f"Other bits than at batch size {result.batch_sizes[0]}, at any of several positions and "
        "beside any of several neighbours."
    )
    if result.cpu is not None and result.cpu.rows:
        text += f" On the CPU: other bits than on {result.device}, of {_compared(result)} samples."
    return text


def _compared(result: CheckResult) -> str:
    assert result.cpu is not None
    count, all_of_them = result.cpu.rows[0].batch_size, len(result.samples)
    return f"{count}" if count == all_of_them else f"{count} of the {all_of_them}"


def _legend(result: CheckResult, width: int) -> RenderableType:
    text = legend(result)
    if width >= _NARROW:
        text += f" One ulp is the step to the next {result.dtype} number."
    return Padding(Text(text, "dim"), (0, 0, 0, 1))


def cells(row: Row) -> list[Text]:
    """A row's numbers as text, below the columns after "model"."""
    texts = [
        f"{row.batch_size}",
        f"{row.differing:,} of {row.elements:,}",
        _number(row),
        "NaN" if row.max_ulp is None else f"{row.max_ulp:,}",
        "-" if row.top1_changed is None else f"{row.top1_changed}",
    ]
    styles = ("", "red" if row.differing else "green", "", "", "")
    return [Text(text, style) for text, style in zip(texts, styles, strict=True)]


def _number(row: Row) -> str:
    if not row.differing:
        return "0"
    return f"{row.max_abs:.1e}" if math.isfinite(row.max_abs) else "NaN or Inf"


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


def familiar(kind: str) -> str:
    """An operator's name, and what a user knows it as."""
    return kind + _FAMILIAR.get(kind, "")


def module_name(name: str) -> str:
    """A module's qualified name, or what to say of the model itself, which has none."""
    return name or "(the model's own forward)"


def verdict(result: CheckResult) -> list[Text]:
    """What was found, in sentences: about stock, about patched, reservations, and notes."""
    sizes = _listed([str(size) for size in result.batch_sizes])
    return [
        _stock_verdict(result, sizes),
        _patched_verdict(result, sizes),
        *_cpu_verdict(result),
        *_reservations(result),
        *_fusion(result),
        *(Text(note, "dim") for note in result.notes),
    ]


def _stock_verdict(result: CheckResult, sizes: str) -> Text:
    if result.stock.invariant:
        return Text(f"Stock: no bit moved at batch sizes {sizes}, on this machine.")
    return Text(f"Stock: the batch changed the bits of {_most(result.stock)} outputs.")


def _patched_verdict(result: CheckResult, sizes: str) -> Text:
    if not result.invariant:
        moved = _most(result.patched)
        return Text(f"Patched: NOT invariant, the bits of {moved} outputs moved.", "bold red")
    still = (
        f"Patched: not one bit moved at batch sizes {sizes}, at any position, beside any neighbour"
    )
    if result.passed:
        return Text(f"{still}; every operator is covered.", "bold green")
    return Text(f"{still}. But:", "bold yellow")


def _cpu_verdict(result: CheckResult) -> Iterator[Text]:
    cpu = result.cpu
    if cpu is None:
        return
    if cpu.equal is None:
        yield Text(f"Patched: not compared with the CPU: {cpu.reason}", "yellow")
        return
    (row,) = cpu.rows
    where = f"outputs of {_compared(result)} samples"
    if cpu.equal:
        text = f"Patched: the CPU has the bits of {result.device} in all {row.elements:,} {where}."
        yield Text(text, "bold green")
        return
    moved = f"{row.differing:,} of {row.elements:,} {where}"
    yield Text(f"Patched: the CPU has OTHER bits than {result.device} in {moved}.", "bold red")
    if result.uncovered:
        text = "Uncovered operators are PyTorch's own, with other kernels on each device."
        yield Text(text, "yellow")


def _most(side: Side) -> str:
    worst = max(side.rows, key=lambda row: row.differing)
    return f"{worst.differing:,} of {worst.elements:,}"


def _reservations(result: CheckResult) -> Iterator[Text]:
    side = result.patched
    if side.uncovered:
        calls = sum(entry.count for entry in side.uncovered)
        what = "1 uncovered operator call" if calls == 1 else f"{calls} uncovered operator calls"
        yield Text(f"{what} may move on another machine, thread count or batch.", "yellow")
    if not side.finite:
        yield Text("The patched model's outputs hold NaN or Inf.", "bold red")
    if not side.distinct:
        yield Text("The patched model's outputs do not differ between samples.", "bold red")
    if side.deviation > _MOST_ROUNDING:
        text = (
            f"Patched and stock outputs differ by {side.deviation:.1e} of the largest output: "
            "more than rounding explains in most models"
        )
        if result.device.startswith("cuda") and result.dtype == "float32":
            text += (
                ", but for rounding to TF32, which stock convolutions do on a GPU unless "
                "torch.backends.cudnn.allow_tf32 is False"
            )
        yield Text(f"{text}.", "yellow")


def _fusion(result: CheckResult) -> Iterator[Text]:
    fusion = result.patched.fusion
    if fusion.chains or fusion.unfused:
        yield Text(f"Patched: {fusion}.")
    for (kind, reason), names in fusion.reasons().items():
        example = names[0] or "the model itself"
        where = example if len(names) == 1 else f"{example} and {len(names) - 1} more"
        yield Text(f"{kind} unfused ({where}): {reason}", "dim")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


@contextmanager
def progress_bar(*, enabled: bool = True, label: str = "checking the {} model") -> Iterator[Any]:
    """A function for `check(progress=...)` that draws a bar on stderr, if that is a terminal."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("checking", total=None)

        def advance(side: str, done: int, total: int) -> None:
            progress.update(task, description=label.format(side), completed=done, total=total)

        yield advance
