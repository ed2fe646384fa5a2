"""The files that `bninv check` writes: whether it can, before the long run, and the writing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bninv.loading.usage import UsageError


@dataclass
class Outputs:
    """What --json, --html, --plot and --save ask for; `json` may be "-", standard output."""

    json: str | None
    html: Path | None
    plot: Path | None
    record: Path | None = None

    @property
    def need_depth(self) -> bool:
        """Whether the run has to record the difference over depth."""
        return self.html is not None or self.plot is not None

    @property
    def need_pictures(self) -> bool:
        """Whether the run has to keep a detector's photographs and boxes."""
        return self.html is not None

    def validate(self, repeat: bool) -> None:
        """Find what cannot be written, and raise UsageError, while nothing has run yet."""
        pages = {"--html": self.html, "--plot": self.plot, "--save": self.record}
        for option, path in pages.items():
            if path is not None and repeat:
                raise UsageError(
                    f"{option} {path}: shows one run; --repeat compares several and has no page, "
                    "plot or record. Leave one of them out"
                )
        written = {"--json": Path(self.json) if self.json not in (None, "-") else None, **pages}
        for option, path in written.items():
            if path is not None and (reason := _obstacle(path)):
                raise _cannot_be_written(option, path, reason)
        if self.plot is not None:
            from bninv.report.plot import PlotError, file_format

            try:
                file_format(self.plot)
            except PlotError as error:
                raise UsageError(f"--plot {self.plot}: {error}") from error

    def write(self, result: Any) -> None:
        """Write the files, of a CheckResult, or for JSON alone a RepeatResult."""
        body = result.to_json()
        if self.json == "-":
            print(body)
        elif self.json is not None:
            _write("--json", Path(self.json), body + "\n")
        if self.html is not None:
            _write("--html", self.html, result.to_html())
        if self.plot is not None:
            from bninv.report.plot import save_plot

            try:
                save_plot(result, self.plot)
            except OSError as error:
                raise _cannot_be_written("--plot", self.plot, error.strerror) from error


def _obstacle(path: Path) -> str | None:
    if path.is_dir():
        return "it is a directory"
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} is no directory"
    # An existing file is written over, which its folder need not permit.
    if not os.access(path if path.exists() else folder, os.W_OK):
        return "permission denied"
    return None


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot_be_written(option, path, error.strerror) from error


def _cannot_be_written(option: str, path: Path, reason: str | None) -> UsageError:
    return UsageError(f"{option} {path}: cannot be written ({reason})")
