"""`make gpu`: what it runs, keeps and ends. What it finds: test_stages.py."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.common import json_file
from tests.gpu import processes, record, schedule
from tests.gpu import run as command_line
from tests.gpu.outcomes import exit_status, outcome_of
from tests.gpu.stages import STAGES, Stage
from tests.support.places import ROOT

Row = dict[str, Any]
FIRST = Stage("first", 5, "first", True, ())
SECOND = Stage("second", 5, "second", False, (), script="a benchmark, which has no rows here")


def counted(calls: list[str], name: str, row: Row | None = None) -> Callable[[], Row]:
    def run() -> Row:
        calls.append(name)
        return row or {"ok": True}

    return run


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


# ---- Rows ----------------------------------------------------------------------------------------


def test_what_is_known_is_not_done_again(tmp_path: Path) -> None:
    calls: list[str] = []
    work = {name: counted(calls, name) for name in "abc"}
    path = tmp_path / "rows.json"
    record.fill(path, "digest", dict(itertools.islice(work.items(), 2)), soon())
    document = record.fill(path, "digest", work, soon())
    assert calls == ["a", "b", "c"]
    assert record.is_complete(document) and json_file.read(path) == document
    record.fill(path, "other sources", work, soon())
    assert calls == ["a", "b", "c"] * 2


def test_rows_end_with_their_time(tmp_path: Path) -> None:
    calls: list[str] = []
    work = {name: counted(calls, name) for name in "abc"}
    path = tmp_path / "rows.json"
    document = record.fill(path, "digest", work, time.monotonic() - 1)
    assert calls == [] and not record.is_complete(document)
    assert record.is_complete(record.fill(path, "digest", work, soon()))


def test_a_row_that_raises_is_recorded_and_done_again(tmp_path: Path) -> None:
    def raises() -> Row:
        raise ValueError("the reason")

    calls: list[str] = []
    path, asked = tmp_path / "rows.json", []
    work = {"bad": raises, "good": counted(calls, "good")}
    document = record.fill(path, "digest", work, soon(), lambda: asked.append(1))
    assert "the reason" in document["rows"]["bad"]["error"] and document["rows"]["good"]["ok"]
    assert asked == [1] and not record.is_complete(document)
    assert list(record.failures(document)) == ["bad"]
    document = record.fill(path, "digest", {**work, "bad": counted(calls, "bad")}, soon())
    assert calls == ["good", "bad"] and record.is_complete(document)


def test_a_row_that_was_left_out_is_tried_again(tmp_path: Path) -> None:
    calls: list[str] = []
    work = {"a": counted(calls, "a", {"ok": True, "left_out": "needs nvcc"})}
    for _ in range(2):
        record.fill(tmp_path / "rows.json", "digest", work, soon())
    assert calls == ["a", "a"]


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"digest": "d", "ro')
    assert json_file.read(path) == {}


# ---- Stages --------------------------------------------------------------------------------------

# A stage of two rows; each leaves a line in a log when it is done.
SCRIPT = """
import sys, time
from pathlib import Path
from tests.gpu import record
folder, digest, pause, ok = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4] == "ok"
def row(name, seconds):
    def run():
        time.sleep(seconds)
        with (folder / "done").open("a") as log:
            print(name, file=log)
        return {"ok": ok}
    return run
work = {"a": row("a", 0), "b": row("b", pause)}
record.fill(folder / "first.json", digest, work, time.monotonic() + 60)
"""


def scripted(folder: Path, digest: str = "d", pause: float = 0, result: str = "ok") -> schedule.Job:
    arguments = [str(folder), digest, str(pause), result]
    return schedule.Job(FIRST, lambda seconds: processes.python("-c", SCRIPT, *arguments), digest)


def command(stage: Stage, code: str) -> schedule.Job:
    return schedule.Job(stage, lambda seconds: processes.python("-c", code), "d")


def run(
    jobs: list[schedule.Job], folder: Path, again: bool = False, seconds: float = 40
) -> dict[str, Any]:
    return schedule.Run(jobs, folder, "emulated", again=again, seconds=seconds).all()


def done(folder: Path) -> list[str]:
    return (folder / "done").read_text().split()


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert run([scripted(tmp_path)], tmp_path)["first"]["status"] == "passed"
        assert done(tmp_path) == ["a", "b"]
    assert run([scripted(tmp_path)], tmp_path, again=True)["first"]["status"] == "passed"
    assert done(tmp_path) == ["a", "b"] * 2
    run([scripted(tmp_path, "other sources")], tmp_path)
    assert done(tmp_path) == ["a", "b"] * 3


def test_a_stage_that_was_ended_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MARGIN", 0)
    outcome = run([scripted(tmp_path, pause=60)], tmp_path, seconds=2)["first"]
    assert outcome["status"] == "unfinished" and outcome["seconds"] < 10
    assert done(tmp_path) == ["a"]
    assert run([scripted(tmp_path)], tmp_path)["first"]["status"] == "passed"
    assert done(tmp_path) == ["a", "b"]


def test_what_a_stage_started_ends_with_it_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "FIRST_ROWS", 4)
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    jobs = [command(FIRST, code), command(SECOND, "print('fine')")]
    outcomes = run(jobs, tmp_path, seconds=6)
    assert [o["status"] for o in outcomes.values()] == ["unfinished", "passed"]
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return  # nobody has asked how it ended
        time.sleep(0.1)
    pytest.fail("the child outlived its stage")


def test_proofs_run_side_by_side(tmp_path: Path) -> None:
    """Each ends only when the other has begun; a benchmark has the machine to itself."""

    def waits(name: str, other: str) -> schedule.Job:
        code = (
            f"import time; from pathlib import Path; folder = Path({str(tmp_path)!r})\n"
            f"(folder / {name!r}).touch()\n"
            f"while not (folder / {other!r}).exists(): time.sleep(0.01)\n"
            "from tests.gpu import record\n"
            f"record.fill(folder / '{name}.json', 'd', {{}}, 0)"
        )
        return command(Stage(name, 5, name, True, ()), code)

    alone = (
        "import sys; from benchmarks.common import json_file; from pathlib import Path\n"
        f"stages = json_file.read(Path({str(tmp_path / 'run.json')!r}))['stages']\n"
        "sys.exit(any(s['why'] == 'the command was stopped' for n, s in stages.items()"
        " if n != 'second'))"
    )
    jobs = [waits("one", "two"), command(SECOND, alone), waits("two", "one")]
    outcomes = run(jobs, tmp_path, seconds=30)
    assert [o["status"] for o in outcomes.values()] == ["passed"] * 3


def test_benchmarks_share_what_the_proofs_left(tmp_path: Path) -> None:
    given: dict[str, float] = {}

    def note(name: str, share: int, code: str = "pass") -> schedule.Job:
        def of(seconds: float) -> list[str]:
            given[name] = seconds + schedule.MARGIN
            return processes.python("-c", code)

        script = "" if name == "proof" else "a benchmark"
        return schedule.Job(Stage(name, share, name, bool(script), (), script=script), of, "d")

    run([note("proof", 5), note("large", 30), note("small", 10)], tmp_path, seconds=100)
    assert given["proof"] == pytest.approx(100 - 2 * schedule.FIRST_ROWS, abs=2)
    assert given["large"] == pytest.approx(75, abs=4)
    assert given["small"] == pytest.approx(100, abs=6)  # the large one left its time


def test_what_is_left_at_the_end_goes_to_the_unfinished(tmp_path: Path) -> None:
    """To proofs first: here one that ends itself, as those do whose time is over."""
    path, order = tmp_path / "first.json", tmp_path / "order"
    half = (
        "from pathlib import Path; import time; from tests.gpu import record\n"
        f"order = Path({str(order)!r}); order.open('a').write('proof ')\n"
        "ok = lambda: {'ok': True}\n"
        "again = order.read_text().count('proof') - 1\n"
        f"record.fill(Path({str(path)!r}), 'd', {{'a': ok}}, time.monotonic() + 9 * again)"
    )
    benchmark = (
        f"order = open({str(order)!r}, 'a+'); order.write('benchmark '); order.seek(0)\n"
        "if order.read().count('benchmark') == 1: print('3 rows are left for --resume.')"
    )
    outcomes = run([command(FIRST, half), command(SECOND, benchmark)], tmp_path)
    assert [o["status"] for o in outcomes.values()] == ["passed", "passed"]
    assert order.read_text().split() == ["proof", "benchmark", "proof", "benchmark"]


def test_a_benchmark_goes_on_only_with_rows_of_these_sources(tmp_path: Path) -> None:
    rows = tmp_path / "second_cpu.json"
    code = "print('3 rows are left for --resume.')"
    for digest, kept in (("one", False), ("one", True), ("another", False)):
        rows.write_text("{}")
        run([schedule.Job(SECOND, lambda seconds: processes.python("-c", code), digest)], tmp_path)
        assert rows.exists() == kept


OK: Row = {"ok": True}
LATE: Row = {"error": "Traceback\nTimeoutError: 3 of 9 not reached"}
RAISED: Row = {"error": "Traceback\nRuntimeError: CUDA error"}
WITHOUT: Row = {"ok": True, "left_out": "needs nvcc"}


@pytest.mark.parametrize(
    ("exit_status", "rows", "expected", "why"),
    [
        (0, [OK, OK], "passed", ""),
        (0, [OK, WITHOUT], "passed", ""),
        (0, [WITHOUT, WITHOUT], "left out", "needs nvcc"),
        (0, [OK], "unfinished", "after 1 of 2"),
        (0, [OK, LATE], "unfinished", "after 1 of 2"),
        (None, [OK], "unfinished", "after 1 of 2"),
        (0, [OK, {"ok": False, "first": "bit 3"}], "failed", "1 of 2: 1: bit 3"),
        (0, [{"ok": False}, RAISED], "failed", "1 of 2: 0"),
        (1, [RAISED], "crashed", "1 of 2 raised: 0: RuntimeError: CUDA error"),
        (-11, [OK], "crashed", "last words"),
        (1, [], "crashed", "last words"),
        (0, [], "unfinished", "after 0 of 2"),
    ],
)
def test_outcomes(exit_status: int | None, rows: list[Row], expected: str, why: str) -> None:
    document = {"total": 2, "rows": {str(i): row for i, row in enumerate(rows)}}
    outcome = outcome_of(FIRST, exit_status, document, "last words")
    assert outcome["status"] == expected and why in outcome["why"]
    assert outcome_of(FIRST, 0, {}, "")["status"] == "crashed"  # it wrote nothing


@pytest.mark.parametrize(
    ("exit_status", "output", "expected"),
    [
        (0, "written", "passed"),
        (0, "12 inputs are left for --resume.", "unfinished"),
        (None, "", "unfinished"),
        (2, "usage", "crashed"),
    ],
)
def test_outcomes_of_benchmarks(exit_status: int | None, output: str, expected: str) -> None:
    # Its file is its own, and says nothing of right or wrong.
    outcome = outcome_of(SECOND, exit_status, {"rows": [1, 2]}, output)
    assert outcome["status"] == expected


def test_a_stage_that_needs_what_is_missing_is_left_out(tmp_path: Path) -> None:
    stage = Stage("first", 5, "first", False, (), ("no_such_module",))
    outcome = run([schedule.Job(stage, list, "d")], tmp_path)["first"]
    assert outcome["status"] == "left out" and outcome["why"] == "needs no_such_module"
    assert json_file.read(tmp_path / "run.json")["stages"]["first"] == outcome


def test_what_is_built_is_built_in_any_case(tmp_path: Path) -> None:
    """Its result may be known from another machine."""
    build = Stage("first", 5, "first", True, (), prepares=True)
    library = Stage("second", 5, "second", False, ("csrc",), script="a benchmark")
    built: list[float] = []

    def compile_all(seconds: float) -> list[str]:
        built.append(seconds)
        return scripted(tmp_path).command(seconds)

    log = tmp_path / "log"
    uses = command(library, f"open({str(log)!r}, 'a').write('x')")
    for _ in range(2):
        outcomes = run([schedule.Job(build, compile_all, "d"), uses], tmp_path)
        assert [o["status"] for o in outcomes.values()] == ["passed", "passed"]
    assert len(built) == 2 and log.read_text() == "x"
    (tmp_path / "run.json").unlink()
    jobs = [command(build, "raise SystemExit(1)"), command(library, "pass")]
    outcomes = run(jobs, tmp_path)
    assert (
        outcomes["second"]["status"] == "left out" and outcomes["second"]["why"] == "first crashed"
    )


def test_results_do_not_say_where_files_lie() -> None:
    text = f'File "{record.ROOT}/bninv/x.py" File "/opt/env/lib/python3/site-packages/torch/y.py"'
    assert record.without_paths(text) == 'File "bninv/x.py" File "torch/y.py"'


def test_the_exit_status(tmp_path: Path) -> None:
    stages = [FIRST, SECOND]
    passed, crashed = {"status": "passed"}, {"status": "crashed"}
    assert exit_status(stages, {"first": passed, "second": passed}) == 0
    assert exit_status(stages, {"first": crashed, "second": passed}) == 1
    # A benchmark proves nothing; but not everything was reached.
    assert exit_status(stages, {"first": passed, "second": crashed}) == 3
    assert exit_status(stages, {"first": {"status": "unfinished"}, "second": passed}) == 3
    outcomes = run([scripted(tmp_path, result="wrong")], tmp_path)
    assert outcomes["first"]["status"] == "failed"
    assert exit_status([FIRST], outcomes) == 1


def test_a_digest_follows_sources_and_device(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "kernel.cu"
    file.write_text("a")

    def digest(gpu: str = "one") -> str:
        return schedule.digest(["folder"], {"gpu": gpu}, tmp_path)

    before = digest()
    (tmp_path / "folder" / "figures.json").write_text("{}")
    assert digest() == before
    assert digest("another") != before
    file.write_text("b")
    assert digest() != before


def test_the_stages_fit_their_time_and_their_sources_exist() -> None:
    """Two stretches of seven minutes: the proofs and each benchmark's first rows in the first."""
    proofs = [stage for stage in STAGES if not stage.is_benchmark]
    benchmarks = [stage for stage in STAGES if stage.is_benchmark]
    longest = max(stage.seconds for stage in proofs)
    build = sum(stage.seconds for stage in STAGES if stage.prepares)
    assert build + longest + sum(stage.seconds for stage in benchmarks) <= 420
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    for stage in STAGES:
        for source in stage.sources:
            assert list(ROOT.glob(source)), f"{stage.name}: {source}"


STOPPED = """
import sys, time
from tests.gpu import processes, run, schedule, stages
code = "import time; time.sleep(60)"
stage = stages.Stage("first", 5, "first", True, ())
run.STAGES = (stage,)
run.describe = lambda device: {"slug": "emulated"}
run.job = lambda stage, *_: schedule.Job(stage, lambda seconds: processes.python("-c", code), "d")
sys.exit(run.main(["--emulated", "--folder", sys.argv[1], "--out", sys.argv[2]]))
"""


def test_a_stopped_command_leaves_its_report_and_one_archive(tmp_path: Path) -> None:
    folder, out = tmp_path / "results", tmp_path / "out"
    process = subprocess.Popen(
        processes.python("-c", STOPPED, str(folder), str(out)),
        cwd=ROOT,
        env=processes.environment("emulated"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "first: up to" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert sorted(path.name for path in out.iterdir()) == ["report.md", "results.tar.gz"]
    assert "| first | **unfinished** |" not in (out / "report.md").read_text()  # no stage of ours
    with tarfile.open(out / "results.tar.gz") as archive:
        names = archive.getnames()
        assert "emulated/run.json" in names and "emulated/report.md" in names
        run_json = archive.extractfile("emulated/run.json")
        assert run_json is not None and b"the command was stopped" in run_json.read()


def test_emulated_results_stay_outside(tmp_path: Path) -> None:
    folder = command_line.results_folder(None, {"slug": "emulated"})
    folder.parent.rmdir()
    assert folder.name == "emulated" and not folder.is_relative_to(ROOT)
    gpu = {"slug": "nvidia-h200"}
    assert command_line.results_folder(None, gpu) == command_line.RESULTS / "nvidia-h200"
    assert command_line.results_folder(tmp_path, gpu) == tmp_path / "nvidia-h200"


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.run"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2 and "no GPU that torch can use" in done.stderr
