"""Runs the stages, each in a process of its own, within their time; keeps what came of each."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import record
from benchmarks.gpu.stages import Stage

ROOT = record.ROOT
SUFFIXES = (".py", ".h", ".cpp", ".cu", ".cuh")
# A stage ends by itself this long before its time is over, so that nothing has to be killed.
MARGIN = 4
LEAST = 15  # of what is left at the end, to go on with a stage
TAIL = 3000  # characters of its output that a failed stage leaves in the report

PASSED, FAILED, UNFINISHED, LEFT_OUT, CRASHED = (
    "passed",
    "failed",
    "unfinished",
    "left out",
    "crashed",
)
Outcome = dict[str, Any]


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


def environment(device: str) -> dict[str, str]:
    """Of the stages: this project's own modules first, and CUDA kernels or an error."""
    folders = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]
    folders += filter(None, [os.environ.get("PYTHONPATH")])
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"}
    if device == "cuda":
        # For this machine's GPU alone, whatever an image has in its environment.
        found.pop("TORCH_CUDA_ARCH_LIST", None)
        found["BNINV_BUILD"] = "cuda"
    else:
        found["OMP_NUM_THREADS"] = "1"  # what is emulated is small, and one core is enough
    return found


def missing(modules: Sequence[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


@dataclass
class Job:
    """How one stage is started: its command without the time, which is added."""

    stage: Stage
    command: Callable[[float], list[str]]
    digest: str


def run_process(
    command: Sequence[str], seconds: float, log: Path, device: str, **variables: str
) -> int | None:
    """The exit status, or None if it had to be ended; its output goes to `log`.

    Args:
        variables: join its environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**environment(device), **variables},
            start_new_session=True,  # so that its compilers end with it
        )
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Ends the process and all that it started; a moment for what it is just writing."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=3)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def outcome_of(
    stage: Stage, status: int | None, document: Mapping[str, Any], output: str
) -> Outcome:
    """What came of a stage that was run.

    Args:
        status: its exit status; None: it had to be ended.
        document: what it wrote, from the sources of now.
        output: what it printed.
    """
    rows = {} if stage.script else document.get("rows", {})
    total = document.get("total", 0)
    wrong = record.failures({"rows": rows})
    failed = [name for name, row in wrong.items() if "error" not in row]
    late = [name for name in wrong if "TimeoutError" in rows[name].get("error", "")]
    raised = [name for name in wrong if name not in failed and name not in late]
    if failed:
        first = rows[failed[0]].get("first", "")
        return {"status": FAILED, "why": f"{len(failed)} of {total}: {failed[0]}: {first}"}
    if raised:
        reason = rows[raised[0]]["error"].strip().splitlines()[-1]
        why = f"{len(raised)} of {total} raised: {raised[0]}: {reason}"
        return {"status": CRASHED, "why": why}
    if status not in (0, None) or (status == 0 and not document and not stage.script):
        return {"status": CRASHED, "why": record.without_paths(output[-TAIL:])}
    left = re.search(r"\d+ \w+ are left for --resume", output) if stage.script else None
    if status is None or left or late or len(rows) < (0 if stage.script else total):
        done = f" after {len(rows) - len(late)} of {total}" if total else ""
        return {"status": UNFINISHED, "why": left[0] if left else f"its time was over{done}"}
    return {"status": PASSED, "why": ""}


class Run:
    """The stages of one call of the command, and what came of each in `folder`/run.json.

    A stage that was finished for the same digest is not run again, whatever came of it; one that
    ran out of time, crashed or was left out is.
    """

    def __init__(self, jobs: Sequence[Job], folder: Path, device: str, *, again: bool) -> None:
        self.jobs = jobs
        self.folder = folder
        self.device = device
        self.again = again
        self.start = time.monotonic()
        self.path = folder / "run.json"
        self.document = record.read(self.path)
        self.outcomes: dict[str, Outcome] = self.document.get("stages", {})

    def all(self) -> dict[str, Outcome]:
        """Every stage in turn; what is left of the time goes to those that ran out of theirs."""
        share = 0.0
        for job in self.jobs:
            stage = job.stage
            share += stage.seconds
            if self._finished(job) and not self.again and not stage.prepares:
                say(f"{stage.name}: {self.outcomes[stage.name]['status']} before")
                continue
            left = max(share - self._elapsed(), stage.most)
            # A benchmark would use all that earlier stages left, and later ones may need it.
            self._stage(job, min(stage.seconds, left) if stage.script else left)
        for job in self.jobs:
            left = share - self._elapsed()
            if left >= LEAST and self.outcomes[job.stage.name]["status"] == UNFINISHED:
                self._stage(job, left, goes_on=True)
        return self.outcomes

    def _elapsed(self) -> float:
        return time.monotonic() - self.start

    def _known(self, job: Job) -> Outcome:
        """What came of it before, from the same sources on the same device."""
        found = self.outcomes.get(job.stage.name, {})
        return found if found.get("digest") == job.digest else {}

    def _finished(self, job: Job) -> bool:
        return self._known(job).get("status") in (PASSED, FAILED)

    def _stage(self, job: Job, seconds: float, goes_on: bool = False) -> None:
        stage = job.stage
        data = self.folder / f"{stage.name_of_document(self.device)}.json"
        # A benchmark goes on with the rows that are there, whatever they were made from.
        if not goes_on and (self.again or (stage.script and not self._known(job))):
            data.unlink(missing_ok=True)
        if why := self._obstacle(stage):
            self._keep(job, {"status": LEFT_OUT, "why": why, "seconds": 0})
            return
        if seconds < 1:
            self._keep(job, {"status": UNFINISHED, "why": "no time was left", "seconds": 0})
            return
        before = self._known(job).get("seconds", 0) if goes_on else 0
        stopped = {"status": UNFINISHED, "why": "the command was stopped", "seconds": before}
        self._keep(job, stopped, quiet=True)
        say(f"{stage.name}: up to {seconds:.0f} s")
        begun = time.monotonic()
        log = self.folder / "logs" / f"{stage.name}.txt"
        status = run_process(job.command(max(1.0, seconds - MARGIN)), seconds, log, self.device)
        document = record.read(data)
        if document.get("digest") != job.digest:
            document = {}  # it was ended, or ended itself, before it wrote its own
        outcome = outcome_of(stage, status, document, log.read_text(errors="replace"))
        self._keep(job, {**outcome, "seconds": round(before + time.monotonic() - begun, 1)})

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
        record.write(self.path, {**self.document, "stages": self.outcomes})
        if not quiet:
            name, why = job.stage.name, outcome["why"]
            say(f"{name}: {outcome['status']} in {outcome['seconds']} s {why}".strip())


def say(text: str) -> None:
    print(text, flush=True)


def exit_status(stages: Sequence[Stage], outcomes: Mapping[str, Outcome]) -> int:
    """1 if something that proves failed or crashed, 3 if anything was not reached, else 0."""
    status = 0
    for stage in stages:
        found = outcomes.get(stage.name, {}).get("status")
        if stage.proves and found in (FAILED, CRASHED):
            return 1
        if found != PASSED:
            status = 3
    return status


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """A module of this folder; as one, so that the folder itself is not where imports look."""
    return python("-m", f"benchmarks.gpu.{name}", *arguments)
