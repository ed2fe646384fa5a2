"""Runs the demo and the tests on every Python and torch that this machine can have, and tabulates.

For each Python found, in ~/.pyenv/versions or on PATH, and each torch: a virtual environment of its
own in --folder, the project's requirements with that torch, `make demo PYTHON=...` and the tests of
`make test`, all in a copy of the checkout. Takes an hour and 5 GB a row. Uses the standard library
alone.

    python tools/matrix.py --only 3.13               rows of one Python, or of `3.13/2.10.0`
    python tools/matrix.py --use /opt/x/bin/python   that interpreter as it is, with its own torch
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.12", "3.13", "3.14")
OLDEST, NEWEST = "2.10.0", "newest"
# What a torch decides: pip finds those that fit.
FOLLOWS_TORCH = ("torch", "torchvision")


@dataclass(frozen=True)
class Row:
    """One interpreter and one torch; without a torch, the interpreter's own."""

    python: str  # 3.13
    interpreter: Path
    torch: str = ""

    def __str__(self) -> str:
        return f"{self.python}/{self.torch or 'its own'}"


def say(text: str) -> None:
    print(f"bninv: {text}", flush=True)


def output(command: list[str | Path]) -> str:
    """What it prints; nothing if it does not run."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def version(interpreter: Path) -> str:
    """3.13, or nothing if it does not run, as pyenv's stand-ins do without a choice."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return output([interpreter, "-I", "-c", code])


def find(python: str) -> Path | None:
    """The newest of pyenv's, else what PATH has."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = sorted(
        home.glob(f"versions/{python}.*/bin/python"),
        key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])],
        reverse=True,
    )
    if on_path := shutil.which(f"python{python}"):
        candidates.append(Path(on_path))
    return next((path for path in candidates if version(path) == python), None)


def rows() -> list[Row]:
    """All that can be had here."""
    made = []
    for python in PYTHONS:
        interpreter = find(python)
        if interpreter is None:
            say(f"no Python {python} here")
            continue
        made += [Row(python, interpreter, torch) for torch in (OLDEST, NEWEST)]
    return made


def requirements(torch: str) -> list[str]:
    """Of the tests, with another torch than the pinned one."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements-test.txt").open()]
    others = [line for line in lines if line and line.split("=")[0] not in FOLLOWS_TORCH]
    return [*others, "torch" if torch == NEWEST else f"torch=={torch}", "torchvision"]


def copy_of_the_checkout(folder: Path) -> Path:
    """What git knows of or would: `make` sets itself up there, and .venv here stays as it is."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


class Attempt:
    """A row's steps, each of which is left out once one has failed; its log has their output."""

    def __init__(self, row: Row, folder: Path, tests: str) -> None:
        self.row = row
        self.folder = folder
        self.tests = tests
        self.results: dict[str, str] = {}
        self.torch = self.closing = ""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self.log.write_text("")

    def step(self, name: str, command: list[str | Path], cwd: Path | None = None) -> bool:
        """Run it; whether it passed."""
        if any(result.startswith("FAILED") for result in self.results.values()):
            self.results[name] = "-"
            return False
        say(f"{self.row}: {name}")
        start = time.monotonic()
        # A cache of its own: the operators are compiled for this torch.
        environ = {**os.environ, "BNINV_CACHE_DIR": str(self.folder / "cache")}
        with self.log.open("a") as log:
            done = subprocess.run(
                command, check=False, cwd=cwd, env=environ, stdout=log, stderr=subprocess.STDOUT
            )
        minutes = (time.monotonic() - start) / 60
        verdict = "passed" if done.returncode == 0 else "FAILED"
        self.results[name] = f"{verdict}, {minutes:.1f} min"
        return done.returncode == 0

    def run(self) -> None:
        interpreter = self.row.interpreter
        if self.row.torch:
            venv = self.folder / "venv"
            made = self.step("install", [interpreter, "-m", "venv", "--clear", venv])
            interpreter = venv / "bin" / "python"
            pip: list[str | Path] = [interpreter, "-m", "pip", "install", "--quiet"]
            if made:
                self.step("install", [*pip, *requirements(self.row.torch)])
        self.torch = output([interpreter, "-c", "import torch; print(torch.__version__)"])
        (self.folder / "cache").mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(self.folder / "checkout", ignore_errors=True)
        checkout = copy_of_the_checkout(self.folder / "checkout")
        chosen = f"PYTHON={interpreter}"
        self.step("demo", ["make", "demo", chosen], checkout)
        self.step("test", ["make", "test", chosen, f"ARGS={self.tests}"], checkout)
        closing = re.findall(r"^=+ (.*(?:passed|failed|error).*?) =+$", self.log.read_text(), re.M)
        self.closing = closing[-1] if closing else "no test ran"

    @property
    def passed(self) -> bool:
        return all(result.startswith("passed") for result in self.results.values())


def table(attempts: list[Attempt]) -> str:
    """One line a row."""
    titles = ("Python", "torch", "install", "demo", "test", "closing line")
    lines: list[tuple[str, ...]] = [titles]
    for attempt in attempts:
        steps = [attempt.results.get(name, "") for name in titles[2:-1]]
        torch = attempt.torch or attempt.row.torch
        lines.append((attempt.row.python, torch, *steps, attempt.closing))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [map(str.ljust, line, widths) for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def main() -> int:
    """Exit status 0 if every row passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="rows that begin so, such as 3.13 or 3.13/2.10.0")
    parser.add_argument("--use", type=Path, help="an interpreter with torch, as it is, as one row")
    parser.add_argument("--folder", type=Path, help="for environments and logs; it is kept")
    parser.add_argument("--tests", default="", help="arguments for pytest, such as '-k linear'")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    arguments = parser.parse_args()
    if arguments.use:
        chosen = [Row(version(arguments.use), arguments.use.absolute())]
        if not chosen[0].python:
            sys.exit(f"bninv: {arguments.use} is not a Python interpreter that runs")
    else:
        chosen = [row for row in rows() if str(row).startswith(arguments.only or "")]
        if not chosen:
            sys.exit(f"bninv: no row begins with {arguments.only!r}")
    if arguments.list:
        print("\n".join(map(str, chosen)))
        return 0
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="bninv-matrix-"))).absolute()
    say(f"environments and logs: {folder}")
    attempts = []
    for row in chosen:
        name = f"{row.python}-{row.torch or 'own'}"
        attempts.append(Attempt(row, folder / name, arguments.tests))
        attempts[-1].run()
        print(table(attempts), flush=True)
    return 0 if all(attempt.passed for attempt in attempts) else 1


if __name__ == "__main__":
    sys.exit(main())
