"""Row after row within a budget, whatever happens to one of them.

An item gives several rows, which stay though sources change. A proof has a row by its name, made
again when they do: tests/gpu/record.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.common import plot_style
from benchmarks.common.result_file import ResultFile, Row

Item = TypeVar("Item")

LOG_SECONDS = 10.0


def measure_all(
    results: ResultFile,
    todo: Sequence[Item],
    measure: Callable[[Item], list[Row]],
    budget: float,
) -> None:
    """Add the rows of each item to `results`.

    Args:
        todo: the most important first.
        measure: an item's rows. What it raises is written down, and the next item's turn comes.
        budget: seconds after which no item is begun, but for the first; 0 is no limit.
    """
    start, progress = time.monotonic(), Progress()
    try:
        for done, item in enumerate(todo):
            if done and 0 < budget < time.monotonic() - start:
                print(f"{len(todo) - done} of {len(todo)} are left for --resume.", file=sys.stderr)
                break
            progress.show(f"{done + 1} of {len(todo)}: {item}")
            try:
                results.rows += measure(item)
            # Out of memory, or worse: the others are measured all the same.
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                print(f"{item}: {failure}", file=sys.stderr)
                results.failed.append({"item": str(item), "error": failure[:1000]})
            results.write_soon()
    finally:
        progress.end()
        results.write()


class Progress:
    """One line for whoever watches; in a log, a line from time to time."""

    def __init__(self) -> None:
        self.shown = time.monotonic()

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.shown > LOG_SECONDS:
            print(text, file=sys.stderr, flush=True)
            self.shown = time.monotonic()

    def end(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def finish(
    results: ResultFile, given: argparse.Namespace, draw: plot_style.Draw | None = None
) -> None:
    """Say where the results are, draw them, and end with a failure if there was one."""
    if results.path is not None:
        print(f"\nwritten to {results.path}")
        if draw is not None and given.plot and results.rows:
            print(plot_style.draw_or_explain(draw, results.path))
    if results.failed:
        sys.exit(f"{len(results.failed)} failed, first {results.failed[0]}")
