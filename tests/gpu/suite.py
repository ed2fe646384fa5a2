"""Stage "suite": the tests that need a GPU, `pytest -m cuda`, file by file."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

import pytest

from tests.gpu.device import Device
from tests.gpu.record import ROOT, Row, without_paths

SHOWN = 5  # failures of a file whose texts are kept
MOST_FAILURES = 30  # of a file, after which it is left


class Recorder:
    """A plugin that counts, keeps the first failures' texts, and stops when time is over."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.texts: list[str] = []
        self.collected = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = len(session.items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failure(report.nodeid, str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failure(report.nodeid, report.longreprtext)
        elif report.skipped or report.when == "call":
            self.counts[report.outcome] += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        result = yield
        if nextitem is not None and time.monotonic() > self.deadline:
            item.session.shouldstop = "its time was over"
        return result

    def _failure(self, name: str, text: str) -> None:
        self.counts["failed"] += 1
        if len(self.texts) < SHOWN:
            self.texts.append(f"{name}: {without_paths(text)[-700:]}")


def run_file(file: str, selection: list[str], deadline: float) -> Row:
    recorder = Recorder(deadline)
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", f"--maxfail={MOST_FAILURES}"]
    # Another machine's packages warn of other things than those here.
    options += ["-W", "default", "--rootdir", str(ROOT)]
    status = pytest.main([*options, *selection, str(ROOT / file)], plugins=[recorder])
    reached = sum(recorder.counts.values())
    row = {**recorder.counts, "collected": recorder.collected, "failures": recorder.texts}
    if recorder.counts["failed"]:
        return {"ok": False, **row}
    if reached < recorder.collected:
        raise TimeoutError(f"{recorder.collected - reached} of {recorder.collected} not reached")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with status {status}")
    return {"ok": recorder.counts["passed"] > 0, **row}


def files() -> list[str]:
    """Those with tests that need a GPU."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.stem.endswith("_cuda") or "@pytest.mark.cuda" in path.read_text():
            found.append(path.relative_to(ROOT).as_posix())
    return found


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is used here
    if device.name == "emulated":
        chosen = ["tests/ops/test_linear_cuda.py", "tests/dispatch/test_dispatch_cuda.py"]
        selection = ["-m", "not cuda", "-k", "separate or strictly"]
    else:
        chosen, selection = files(), ["-m", "cuda"]
    return {f: functools.partial(run_file, f, selection, deadline) for f in chosen}
