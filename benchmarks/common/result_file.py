"""A benchmark's JSON file, written along the way: a run that is cut short is not lost."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import json_file

Row = dict[str, Any]

SECONDS_APART = 1.0


class ResultFile:
    """Rows, and what a reader needs to place them.

    Args:
        path: None keeps the rows in memory.
        machine, arguments: rows of one file share them.
        summarize: lists made of all rows, by name; they are written before them.
        resume: take over the rows of the file that is there, if machine and arguments are its own.
    """

    def __init__(
        self,
        path: Path | None,
        machine: Row,
        arguments: Row,
        summarize: Callable[[list[Row]], dict[str, list[Row]]],
        *,
        resume: bool = False,
    ) -> None:
        self.path = path
        self.machine = machine
        self.arguments = arguments
        # References and circumstances, such as a copy's bandwidth: measured once for all rows.
        self.measured: Row = {}
        self.rows: list[Row] = []
        # What was not measured, and why.
        self.failed: list[Row] = []
        self.summarize = summarize
        self.written = 0.0
        if resume and path is not None and path.exists():
            self._take_over(json_file.read(path))

    def _take_over(self, found: Row) -> None:
        for key in ("machine", "arguments"):
            own = json.loads(json.dumps(getattr(self, key)))
            if found.get(key) != own:
                print(
                    f"{self.path} is not resumed but replaced: its {key} was {found.get(key)}, "
                    f"and is {own}",
                    file=sys.stderr,
                )
                return
        self.measured, self.rows = found["measured"], found["rows"]

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a row with these entries."""
        return any(all(row.get(k) == v for k, v in key.items()) for row in self.rows)

    def write_soon(self) -> None:
        """Write, but for rows that take milliseconds each not after every one."""
        if time.monotonic() - self.written > SECONDS_APART:
            self.write()

    def write(self) -> None:
        self.written = time.monotonic()
        if self.path is None:
            return
        heads = {k: getattr(self, k) for k in ("machine", "arguments", "measured")}
        lists = {**self.summarize(self.rows), "failed": self.failed, "rows": self.rows}
        json_file.write(self.path, heads | lists)
