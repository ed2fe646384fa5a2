"""Gives each stage its turn within the time there is, and keeps what came of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import json_file
from tests.gpu.outcomes import FAILED, LEFT_OUT, PASSED, UNFINISHED, Outcome, outcome_of
from tests.gpu.processes import end, missing, shared_processors, start_process
from tests.gpu.stages import Stage
from tests.support.places import ROOT

SUFFIXES = (".py", ".h", ".cpp", ".cu", ".cuh")
# A stage ends by itself this long before its time is over, so that nothing has to be killed.
MARGIN = 4
LEAST = 15  # of what is left at the end, to go on with a stage
FIRST_ROWS = 15  # for each benchmark, that proofs which take long leave in any case
MOST_BUILD = 300  # what is built is waited for beyond the time given


def digest(sources: Sequence[str], about: Mapping[str, Any], root: Path = ROOT) -> str:
    """Of the files that a stage depends on, and of the device and the software."""
    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for source in sources:
        path = root / source
        for file in sorted(path.rglob("*") if path.is_dir() else root.glob(source)):
            if file.suffix in SUFFIXES and file.is_file():
                total.update(f"{file.relative_to(root).as_posix()}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:24]


@dataclass
class Job:
    """How one stage is started: its command without the time, which is added."""

    stage: Stage
    command: Callable[[float], list[str]]
    digest: str


@dataclass
class Started:
    """A stage that is running."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    data: Path
    begun: float
    before: float  # seconds that it had in an earlier turn of this call


class Run:
    """The stages of one call of the command, and what came of each in `folder`/run.json.

    First what prepares, then all proofs side by side, then the benchmarks one after the other, each
    with its share of what is left; what is left after them goes to what was not finished, proofs
    first. A stage that was finished for the same digest is not run again, whatever came of it; one
    that ran out of time, crashed or was left out is.

    Args:
        seconds: for all of it. A build is waited for, however long it takes.
    """

    def __init__(
        self, jobs: Sequence[Job], folder: Path, device: str, *, again: bool, seconds: float
    ) -> None:
        self.jobs = jobs
        self.folder = folder
        self.device = device
        self.again = again
        self.over = time.monotonic() + seconds
        self.path = folder / "run.json"
        self.document = json_file.read(self.path)
        self.outcomes: dict[str, Outcome] = self.document.get("stages", {})

    def all(self) -> dict[str, Outcome]:
        for job in self.jobs:
            if job.stage.prepares:
                self._together([job], max(self._left(), MOST_BUILD))
        todo = []
        for job in self.jobs:
            if job.stage.prepares:
                continue
            if self._known(job).get("status") in (PASSED, FAILED) and not self.again:
                say(f"{job.stage.name}: {self.outcomes[job.stage.name]['status']} before")
            else:
                todo.append(job)
        proofs = [job for job in todo if not job.stage.is_benchmark]
        benchmarks = [job for job in todo if job.stage.is_benchmark]
        self._together(proofs, self._left() - (FIRST_ROWS * len(benchmarks)))
        for i, job in enumerate(benchmarks):
            shares = sum(other.stage.seconds for other in benchmarks[i:])
            self._together([job], self._left() * job.stage.seconds / shares)
        self._go_on(proofs, together=True)
        self._go_on(benchmarks, together=False)
        return self.outcomes

    def _left(self) -> float:
        return self.over - time.monotonic()

    def _go_on(self, jobs: Sequence[Job], *, together: bool) -> None:
        left = [job for job in jobs if self.outcomes[job.stage.name]["status"] == UNFINISHED]
        for group in [left] if together else [[job] for job in left]:
            if group and self._left() >= LEAST:
                self._together(group, self._left(), goes_on=True)

    def _known(self, job: Job) -> Outcome:
        """What came of it before, from the same sources on the same device."""
        found = self.outcomes.get(job.stage.name, {})
        return found if found.get("digest") == job.digest else {}

    def _together(self, jobs: Sequence[Job], seconds: float, goes_on: bool = False) -> None:
        """Runs the stages side by side, and keeps what came of them."""
        running = []
        over = time.monotonic() + seconds
        try:
            running += [
                started
                for job in jobs
                if (started := self._start(job, seconds, len(jobs), goes_on)) is not None
            ]
            while running:
                time.sleep(0.02)
                for started in list(running):
                    status = started.process.poll()
                    if status is None and time.monotonic() < over:
                        continue
                    if status is None:
                        end(started.process)
                    running.remove(started)
                    self._conclude(started, status)
        finally:
            end(*(started.process for started in running))

    def _start(self, job: Job, seconds: float, count: int, goes_on: bool) -> Started | None:
        stage = job.stage
        data = self.folder / f"{stage.name_of_document(self.device)}.json"
        # A benchmark goes on with the rows that are there, whatever they were made from.
        if not goes_on and (self.again or (stage.script and not self._known(job))):
            data.unlink(missing_ok=True)
        if why := self._obstacle(stage):
            self._keep(job, {"status": LEFT_OUT, "why": why, "seconds": 0})
            return None
        if seconds < 1:
            self._keep(job, {"status": UNFINISHED, "why": "no time was left", "seconds": 0})
            return None
        before = self._known(job).get("seconds", 0) if goes_on else 0
        stopped = {"status": UNFINISHED, "why": "the command was stopped", "seconds": before}
        self._keep(job, stopped, quiet=True)
        say(f"{stage.name}: up to {seconds:.0f} s")
        log = self.folder / "logs" / f"{stage.name}.txt"
        begun = time.monotonic()
        command = job.command(max(1.0, seconds - MARGIN))
        process = start_process(command, log, self.device, **shared_processors(count))
        return Started(job, process, log, data, begun, before)

    def _conclude(self, started: Started, status: int | None) -> None:
        job = started.job
        document = json_file.read(started.data)
        if document.get("digest") != job.digest:
            document = {}  # it was ended, or ended itself, before it wrote its own
        output = started.log.read_text(errors="replace")
        outcome = outcome_of(job.stage, status, document, output)
        took = started.before + time.monotonic() - started.begun
        self._keep(job, {**outcome, "seconds": round(took, 1)})

    def _obstacle(self, stage: Stage) -> str:
        if lacks := missing(stage.needs):
            return f"needs {', '.join(lacks)}"
        for job in self.jobs:
            if job.stage.prepares and job.stage is not stage and stage.needs_library:
                status = self.outcomes[job.stage.name]["status"]
                return "" if status == PASSED else f"{job.stage.name} {status}"
        return ""

    def _keep(self, job: Job, outcome: Outcome, quiet: bool = False) -> None:
        self.outcomes[job.stage.name] = {**outcome, "digest": job.digest}
        json_file.write(self.path, {**self.document, "stages": self.outcomes})
        if not quiet:
            name, why = job.stage.name, outcome["why"]
            say(f"{name}: {outcome['status']} in {outcome['seconds']} s {why}".strip())


def say(text: str) -> None:
    print(text, flush=True)
