"""Shows which models bninv covers: a process for each model, a file for each result.

    python -m benchmarks.zoo                       go on after the last run; then docs/zoo.md
    python -m benchmarks.zoo --only 'eva*,xcit*'   these alone
    python -m benchmarks.zoo --uncovered           anew, what failed, moved or is not covered
    python -m benchmarks.zoo --write               docs/zoo.md alone, from the results

A result is kept while the kernels, the contract and the libraries are those it was made with.
Exit status 1: a patched model's bits moved, or a model failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.common.places import ROOT
from benchmarks.zoo import page, results
from benchmarks.zoo.models import MEANING, ZOO, Entry
from benchmarks.zoo.results import Result


def main(
    only: Annotated[str, typer.Option(help="Names or patterns, comma-separated.")] = "*",
    limit_parameters: Annotated[
        float, typer.Option(help="In millions; larger models are left out. 0: no limit.")
    ] = 0.0,
    again: Annotated[bool, typer.Option(help="Also what has a result.")] = False,
    uncovered: Annotated[
        bool, typer.Option(help="Only, and anew, models whose result is not clean.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="For each model.")] = 1,
    memory: Annotated[float, typer.Option(help="GiB that a model's process may have.")] = 16.0,
    timeout: Annotated[float, typer.Option(help="Seconds that a model may take.")] = 3600.0,
    seconds: Annotated[float, typer.Option(help="Of each model's timing.")] = 4.0,
    folder: Annotated[Path | None, typer.Option(help="For the results.")] = None,
    write: Annotated[bool, typer.Option(help="Run nothing; write docs/zoo.md.")] = False,
) -> None:
    # A GPU's results are its own folder's, and the page is the CPU's.
    place = folder or results.folder(device)
    writes_page = place == results.FOLDER
    chosen = choose(place, only, limit_parameters, uncovered)
    if not write:
        command = ["--device", device, "--threads", str(threads), "--seconds", str(seconds)]
        command += ["--memory", str(memory)]
        good = Run(place, command, timeout).all(chosen, again=again or uncovered)
        if writes_page:
            page.write()
        raise typer.Exit(0 if good else 1)
    page.write()


def choose(folder: Path, only: str, limit: float, uncovered: bool) -> list[Entry]:
    """The models that the options name, the smallest first."""
    patterns = only.split(",")
    for pattern in patterns:
        if not any(fnmatch(entry.name, pattern) for entry in ZOO):
            raise typer.BadParameter(f"{pattern!r} is no model of benchmarks/zoo/models.py")
    return [
        entry
        for entry in ZOO
        if any(fnmatch(entry.name, pattern) for pattern in patterns)
        and (not limit or entry.millions <= limit)
        and (not uncovered or not results.is_clean(results.read(folder, entry)))
    ]


class Run:
    """One model's process after the other.

    Args:
        folder: for the results.
        command: options for benchmarks.zoo.measure.
        timeout: seconds after which a model's process is ended.
    """

    def __init__(self, folder: Path, command: list[str], timeout: float) -> None:
        self.folder, self.command, self.timeout = folder, command, timeout
        # Widths are a line's own where nobody watches.
        self.console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)

    def all(self, entries: list[Entry], *, again: bool) -> bool:
        """Run those without a result; whether every result there now is good."""
        key = results.key()
        todo = [e for e in entries if again or results.read(self.folder, e).get("key") != key]
        self.console.print(f"{len(entries)} models, {len(entries) - len(todo)} have a result.")
        try:
            self._all(todo)
        except KeyboardInterrupt:
            self.console.print("Stopped: the same command goes on from here.")
            raise typer.Exit(130) from None
        found = [results.read(self.folder, entry) for entry in entries]
        bad = [
            entry.name
            for entry, result in zip(entries, found, strict=True)
            if not results.is_good(result) and entry.name not in MEANING
        ]
        self.console.print(
            f"{len(bad)} of {len(found)} failed or moved: {', '.join(bad)}"
            if bad
            else f"All {len(found)} have one set of bits a sample."
        )
        return not bad

    def _all(self, todo: list[Entry]) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            for number, entry in enumerate(todo, 1):
                label = f"{number} of {len(todo)}: {entry.name}, {entry.millions:g} M parameters"
                task = progress.add_task(label, total=None)
                progress.console.print(line(entry, self.one(entry)))
                progress.remove_task(task)

    def one(self, entry: Entry) -> Result:
        """Measure one; what ends its process is its result."""
        path = self.folder / entry.file
        before = path.stat().st_mtime_ns if path.exists() else 0
        start = time.monotonic()
        measure = [sys.executable, "-m", "benchmarks.zoo.measure", entry.name, str(path)]
        # A session of its own: it ends whole, with what it has started.
        with subprocess.Popen(
            [*measure, *self.command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                _, said = process.communicate(timeout=self.timeout)
                reason = f"the process ended with {process.returncode}: {said.strip()[-300:]}"
            except subprocess.TimeoutExpired:
                reason = f"not finished after {self.timeout:g} seconds"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if not path.exists() or path.stat().st_mtime_ns == before:
            failed = {"model": entry.name, "family": entry.family, "key": results.key()}
            seconds = round(time.monotonic() - start)
            results.write(self.folder, entry, failed | {"failed": reason, "seconds": seconds})
        return results.read(self.folder, entry)


def line(entry: Entry, result: Result) -> str:
    """What a run says of a model."""
    name = f"{entry.name:30}"
    if "failed" in result:
        return f"[red]{name} failed: {escape(result['failed'])}[/red]"
    moved = result["patched_moved"] + result["inference_mode_moved"]
    names = results.uncovered(result)
    colour = "green" if results.is_clean(result) else "yellow" if results.is_good(result) else "red"
    ratios = " ".join(f"{row['ratio']:.2f}" for row in result["milliseconds"])
    error = result["errors"]["ratio"].get("rms", 0.0)
    stock = f"{result['stock_moved']:,} of {result['elements']:,}"
    return (
        f"{name} stock moved {stock:>17}  patched [{colour}]{moved:,}[/{colour}]"
        f"  error {error:.2f}  speed {ratios}  {result['seconds']:4} s"
        + (f"  [{colour}]not covered: {', '.join(names)}[/{colour}]" if names else "")
    )


if __name__ == "__main__":
    typer.run(main)
