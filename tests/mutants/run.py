"""Plants faults in the CUDA kernels, one at a time: the tests of the emulated kernels must fail.

    python -m tests.mutants.run [NAME...]     all mutants, or those whose names begin so
    python -m tests.mutants.run --list

A test that no fault makes fail proves nothing. Each mutant is caught by a failing test; one that
does not compile, or that ends a test run in any other way, is an error of the table.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bninv.building import cache, extension
from tests.mutants import attention, boxes, elementwise, products, reductions
from tests.mutants.mutant import Mutant, MutantError
from tests.support import emulated
from tests.support.places import ROOT

MUTANTS = (
    *attention.MUTANTS,
    *products.MUTANTS,
    *reductions.MUTANTS,
    *elementwise.MUTANTS,
    *boxes.MUTANTS,
)
AT_ONCE = 2
LIMIT = 300  # seconds of one test run; the slowest file takes about 20 here


@dataclass(frozen=True)
class Outcome:
    mutant: Mutant
    caught_by: str = ""  # the first test that failed
    error: str = ""
    seconds: float = 0

    @property
    def verdict(self) -> str:
        if self.error:
            return f"[red]{self.error}[/red]"
        return self.caught_by.replace("[", r"\[") or "[bold red]survived[/bold red]"


def pytest(
    names: Sequence[str], overlay: Path | None = None, select: str = ""
) -> subprocess.CompletedProcess[str]:
    """The tests ops/test_NAME_cuda.py up to the first failure, in a process of their own."""
    variables = {"BNINV_EMULATED_OVERLAY": str(overlay)} if overlay else {}
    # A core and a thread each: the tests' own pools would get in one another's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    files = [f"tests/ops/test_{name}_cuda.py" for name in names]
    options = ["-x", "-q", "-m", "not cuda", "-k", select, "--tb=short", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=LIMIT,
    )


def examine(mutant: Mutant) -> Outcome:
    """Plant, compile, test."""
    start = time.monotonic()
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bninv-mutant-") as folder:
        overlay = Path(folder)
        try:
            mutant.write(overlay)
            emulated.build_operators(overlay)
            done = pytest([mutant.caught_by], overlay, mutant.select)
        except MutantError as error:
            found["error"] = str(error)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            found["error"] = "does not compile"
        except subprocess.TimeoutExpired:
            found["error"] = f"tests took more than {LIMIT} s"
        else:
            failed = re.search(r"^FAILED tests/(\S.*?)(?: - |$)", done.stdout, re.MULTILINE)
            if failed:  # what the fault wrote elsewhere may end the process after that
                found["caught_by"] = failed[1]
            elif done.returncode != 0:
                print(done.stdout, done.stderr, file=sys.stderr)
                found["error"] = f"pytest ended with status {done.returncode}"
    return Outcome(mutant, **found, seconds=time.monotonic() - start)


def unmutated(mutants: Sequence[Mutant]) -> None:
    """Compile what all share; exit unless the tests pass as they are."""
    extension.load()
    emulated.build_operators()
    done = pytest(sorted({mutant.caught_by for mutant in mutants}))
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\nbninv: the tests fail without any mutant")


def table(outcomes: Sequence[Outcome]) -> Table:
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("mutant", "what is wrong", "caught by"):
        result.add_column(title, overflow="fold")
    result.add_column("s", justify="right")
    for outcome in outcomes:
        mutant = outcome.mutant
        result.add_row(mutant.name, mutant.wrong, outcome.verdict, f"{outcome.seconds:.0f}")
    return result


def chosen(names: Sequence[str]) -> list[Mutant]:
    """Those whose names begin with one of `names`; without any, all."""
    known = [mutant.name for mutant in MUTANTS]
    if repeated := {name for name in known if known.count(name) > 1}:
        sys.exit(f"bninv: two mutants have the same name: {', '.join(sorted(repeated))}")
    for name in names:
        if not any(mutant.startswith(name) for mutant in known):
            sys.exit(f"bninv: no mutant's name begins with `{name}`: --list shows all")
    return [mutant for mutant in MUTANTS if not names or mutant.name.startswith(tuple(names))]


def main() -> int:
    """Exit status 0 if every mutant was caught."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only mutants that begin so")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    arguments = parser.parse_args()
    mutants = chosen(arguments.names)
    console = Console()
    if arguments.list:
        for mutant in mutants:
            console.print(f"{mutant.name}: {mutant.wrong}", markup=False, soft_wrap=True)
        return 0
    start = time.monotonic()
    # Objects of what is not mutated must outlive this process's children.
    os.environ.setdefault("BNINV_CACHE_DIR", str(cache.cache_dir()))
    unmutated(mutants)
    console.print(f"The tests pass without a mutant: {time.monotonic() - start:.0f} s")
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(examine, mutants):
            outcomes.append(outcome)
            console.print(f"{outcome.mutant.name}: {outcome.verdict}", soft_wrap=True)
    console.print(table(outcomes))
    missed = sum(not outcome.caught_by for outcome in outcomes)
    minutes = (time.monotonic() - start) / 60
    console.print(f"{len(mutants)} mutants, {missed} not caught, {minutes:.1f} min")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
