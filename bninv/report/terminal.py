"""Where reports go: a terminal, or text of a fixed width; and the progress bar (rich)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# Where the output is no terminal there is no width to fit: enough for every column on one line.
FILE_WIDTH = 96


def console(*, stderr: bool = False) -> Console:
    """The console reports go to; colours and boxes only where they can be shown."""
    out = Console(stderr=stderr, highlight=False)
    if not out.is_terminal:
        out = Console(stderr=stderr, highlight=False, width=FILE_WIDTH, no_color=True)
    return out


def to_text(result: RenderableType) -> str:
    """The report without colours, 96 columns wide."""
    buffer = io.StringIO()
    Console(file=buffer, width=FILE_WIDTH, no_color=True, highlight=False).print(result)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


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
