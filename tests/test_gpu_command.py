"""`make gpu`: what it runs, keeps, ends and says. Its kernels' bits are other tests' matter."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bninv
from benchmarks.gpu import (
    device,
    draws,
    matrix,
    operators,
    record,
    report,
    report_cause,
    runner,
    sanitize,
)
from benchmarks.gpu.stages import STAGES, Stage

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
    assert record.is_complete(document) and record.read(path) == document
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


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"digest": "d", "ro')
    assert record.read(path) == {}


# ---- Stages --------------------------------------------------------------------------------------

# A stage of two rows; each leaves a line in a log when it is done.
SCRIPT = """
import sys, time
from pathlib import Path
from benchmarks.gpu import record
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


def scripted(folder: Path, digest: str = "d", pause: float = 0, result: str = "ok") -> runner.Job:
    arguments = [str(folder), digest, str(pause), result]
    return runner.Job(FIRST, lambda seconds: runner.python("-c", SCRIPT, *arguments), digest)


def command(stage: Stage, code: str) -> runner.Job:
    return runner.Job(stage, lambda seconds: runner.python("-c", code), "d")


def run(jobs: list[runner.Job], folder: Path, again: bool = False) -> dict[str, Any]:
    return runner.Run(jobs, folder, "emulated", again=again).all()


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
    monkeypatch.setattr(runner, "MARGIN", 0)
    short = Stage("first", 2, "first", True, ())
    job = scripted(tmp_path, pause=60)
    outcome = run([runner.Job(short, job.command, "d")], tmp_path)["first"]
    assert outcome["status"] == "unfinished" and outcome["seconds"] < 10
    assert done(tmp_path) == ["a"]
    assert run([scripted(tmp_path)], tmp_path)["first"]["status"] == "passed"
    assert done(tmp_path) == ["a", "b"]


def test_what_a_stage_started_ends_with_it_and_the_next_one_runs(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    short = Stage("first", 2, "first", True, ())
    outcomes = run([command(short, code), command(SECOND, "print('fine')")], tmp_path)
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


def test_who_may_use_what_earlier_stages_left(tmp_path: Path) -> None:
    given: list[float] = []

    def note(seconds: float) -> list[str]:
        given.append(seconds + runner.MARGIN)
        return runner.python("-c", "pass")

    third = Stage("third", 5, "third", False, (), script="another benchmark")
    run([runner.Job(stage, note, "d") for stage in (SECOND, FIRST, third)], tmp_path)
    benchmark, proof, last = given
    assert benchmark == last == 5 and 5 < proof <= 10


def test_what_is_left_at_the_end_goes_to_the_unfinished(tmp_path: Path) -> None:
    codes = iter(["print('3 rows are left for --resume.')", "pass"])
    given: list[float] = []

    def benchmark(seconds: float) -> list[str]:
        given.append(seconds)
        return runner.python("-c", next(codes))

    quick = Stage("quick", 100, "quick", False, (), script="another benchmark")
    jobs = [runner.Job(SECOND, benchmark, "d"), command(quick, "pass")]
    assert run(jobs, tmp_path)["second"]["status"] == "passed"
    assert given[0] < 5 and given[1] > 90


def test_a_benchmark_goes_on_only_with_rows_of_these_sources(tmp_path: Path) -> None:
    rows = tmp_path / "second_cpu.json"
    code = "print('3 rows are left for --resume.')"
    for digest, kept in (("one", False), ("one", True), ("another", False)):
        rows.write_text("{}")
        run([runner.Job(SECOND, lambda seconds: runner.python("-c", code), digest)], tmp_path)
        assert rows.exists() == kept


@pytest.mark.parametrize(
    ("job", "status", "why"),
    [
        (command(SECOND, "import sys; sys.exit('the last words')"), "crashed", "the last words"),
        (
            runner.Job(Stage("second", 5, "x", False, (), ("no_such_module",)), list, "d"),
            "left out",
            "needs no_such_module",
        ),
    ],
    ids=["crashed", "left out"],
)
def test_outcomes(tmp_path: Path, job: runner.Job, status: str, why: str) -> None:
    outcome = run([job], tmp_path)["second"]
    assert outcome["status"] == status and why in outcome["why"]
    assert record.read(tmp_path / "run.json")["stages"]["second"] == outcome


def test_the_exit_status(tmp_path: Path) -> None:
    stages = [FIRST, SECOND]
    passed, crashed = {"status": "passed"}, {"status": "crashed"}
    assert runner.exit_status(stages, {"first": passed, "second": passed}) == 0
    assert runner.exit_status(stages, {"first": crashed, "second": passed}) == 1
    # A benchmark proves nothing; but not everything was reached.
    assert runner.exit_status(stages, {"first": passed, "second": crashed}) == 3
    assert runner.exit_status(stages, {"first": {"status": "unfinished"}, "second": passed}) == 3
    outcomes = run([scripted(tmp_path, result="wrong")], tmp_path)
    assert outcomes["first"]["status"] == "failed"
    assert runner.exit_status([FIRST], outcomes) == 1


def test_a_digest_follows_sources_and_device(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "kernel.cu"
    file.write_text("a")

    def digest(gpu: str = "one") -> str:
        return runner.digest(["folder"], {"gpu": gpu}, tmp_path)

    before = digest()
    (tmp_path / "folder" / "figures.json").write_text("{}")
    assert digest() == before
    assert digest("another") != before
    file.write_text("b")
    assert digest() != before


def test_the_stages_fit_their_time_and_their_sources_exist() -> None:
    assert sum(stage.seconds for stage in STAGES) <= 540
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    for stage in STAGES:
        for source in stage.sources:
            assert list(runner.ROOT.glob(source)), f"{stage.name}: {source}"


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu/run.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=runner.ROOT,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 2 and "no GPU that torch can use" in done.stderr


# ---- What the stages find ------------------------------------------------------------------------


class OnHost(device.Emulated):
    """The CPU's own kernels; `fault` changes a result."""

    def __init__(self, fault: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        self.fault = fault

    def model(self, model: nn.Module) -> device.Run:
        return lambda x: self.fault(model(x))


def one_bit(y: Tensor) -> Tensor:
    """Of the last output of the last sample, in batches."""
    y = y.clone()
    if len(y) > 1:
        y[-1, -1:].view(torch.int32).bitwise_xor_(1)
    return y


def test_the_matrix_finds_a_single_bit(one_thread: None) -> None:
    plan = matrix.Plan(("test_resnet",), (1, 2), 32, 2, 2)
    row = matrix.compare(OnHost(), plan, "test_resnet", torch.float32, None)
    # Alone; both among random images and, with nobody left between them, NaN; six settings.
    assert row["ok"] and row["compared"] == 1 + 2 * 2 + 6 * 2
    row = matrix.compare(OnHost(one_bit), plan, "test_resnet", torch.float32, None)
    assert not row["ok"] and row["differed"] == 2 + 6
    assert "batch 2 of random, position 1: 1 of 1000 outputs" in row["first"]


def test_a_model_whose_outputs_say_nothing_proves_nothing(one_thread: None) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 10)

    plan = matrix.Plan(("nothing",), (1,), 8, 1, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "patched", lambda *_: Nothing())
        row = matrix.compare(OnHost(), plan, "nothing", torch.float32, None)
    assert row["differed"] == 0 and not row["ok"]


def test_random_calls_find_a_single_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = operators.emulated.run

    def faulty(where: str, name: str, *args: Any) -> Any:
        result = genuine("cpu", name, *args)
        if where == "emulated" and name == "relu" and result.numel() > 8:
            first = result.as_strided((1,), (1,), 0)
            first.view(torch.int32).bitwise_xor_(1)
        return result

    monkeypatch.setattr(operators.emulated, "run", faulty)
    amount = operators.Amount(3, 200)
    for name, right in (("relu", False), ("linear", True)):
        row = operators.compare(device.Emulated(), amount, name, torch.float32)
        assert row["ok"] == right and (row["differed"] == 0) == right
        assert right or "elements differ in bits" in row["first"]


def test_every_operator_is_called_in_every_dtype() -> None:
    for name in draws.operators():
        for dtype in draws.dtypes(name):
            args = draws.operators()[name](draws.Draw(name, dtype, 300))
            assert args[0].dtype == dtype


@pytest.mark.parametrize("name", matrix.PLANS["cuda", ""].models)
def test_the_models_run_strictly_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, one_thread: None, name: str
) -> None:
    """No call that a GPU may round otherwise: on tensors that only say that they are on one."""
    monkeypatch.setattr("bninv._extension.has_cuda", lambda: True)
    model = bninv.patch(timm.create_model(name).eval(), strict=True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in model.modules():
            for kind in (module._parameters, module._buffers):
                for key, value in kind.items():
                    if value is not None:
                        options = {"dtype": value.dtype, "device": "cuda"}
                        fake = torch.empty_strided(value.shape, value.stride(), **options)
                        kind[key] = nn.Parameter(fake) if kind is module._parameters else fake
        result = model(torch.empty(2, 3, 64, 64, device="cuda"))
    assert result.is_cuda and bninv.uncovered(model) == []


def test_settings_are_put_back() -> None:
    def now() -> tuple[bool, ...]:
        b = torch.backends
        cudnn = (b.cudnn.enabled, b.cudnn.benchmark, b.cudnn.deterministic, b.cudnn.allow_tf32)
        return (*cudnn, b.cuda.matmul.allow_tf32, torch.are_deterministic_algorithms_enabled())

    before = now()
    changed = {"cudnn": False, "benchmark": True, "deterministic": True, "matmul_tf32": True}
    with contextlib.suppress(KeyError), device.math_settings(**changed):
        assert now() == (False, True, True, False, True, True)
        raise KeyError
    assert now() == before


# ---- compute-sanitizer ---------------------------------------------------------------------------

# In its place: keeps its options, runs the program behind them, and finds what it is told to.
SANITIZER = """#!/bin/sh
echo "$@" >> {folder}/options
while [ "$1" != {python} ]; do shift; done
"$@" || exit 1
echo "========= Invalid __global__ write of size 4 bytes"
echo "========= ERROR SUMMARY: {errors} errors"
exit {status}
"""


@pytest.mark.parametrize(
    ("tool", "errors", "status"), [("initcheck", 0, "passed"), ("memcheck", 2, "failed")]
)
def test_what_compute_sanitizer_finds(tmp_path: Path, tool: str, errors: int, status: str) -> None:
    fake = tmp_path / "compute-sanitizer"
    values = {"folder": tmp_path, "python": sys.executable, "errors": errors}
    fake.write_text(SANITIZER.format(**values, status=sanitize.FOUND if errors else 0))
    fake.chmod(0o755)
    found = sanitize.examine(str(fake), tool, "emulated", 60)
    assert found["status"] == status and found["reached"] == found["total"] > 100
    options = (tmp_path / "options").read_text()
    assert f"--tool {tool}" in options and ("kns=bninv" in options) == (tool == "memcheck")
    text = report.build({"sanitize": {"tools": {tool: found}}})
    assert f"| {tool} | {status} | ERROR SUMMARY: {errors} errors |" in text
    assert ("Invalid __global__ write" in text) == bool(errors)


def test_without_compute_sanitizer_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sanitize, "find_sanitizer", lambda: None)
    assert sanitize.main([]) == 2
    assert "compute-sanitizer was not found" in capsys.readouterr().err


# ---- The report ----------------------------------------------------------------------------------


def kind(moved: int, calls: int = 4) -> Row:
    by = {"batch 2": moved} if moved else {}
    return {"calls": calls, "moved": moved, "by": by, "max_relative": 1e-6 * moved}


def examined(**kinds: Row) -> Row:
    moved = [2] if any(k["moved"] for k in kinds.values()) else []
    logits = {"moved_at": moved, "max_abs": 1e-3, "largest": 10.0}
    return {"model": "resnet34", "logits": logits, "operators": kinds}


def alone(*moved: str) -> Row:
    return {"moved": list(moved), "max_abs": 1e-7 * len(moved), "max_ulp": len(moved)}


def test_the_verdict_on_batch_norm() -> None:
    still = {"resnet34, defaults": examined(conv2d=kind(3), batch_norm=kind(0))}
    text = report_cause.verdict(still, {"ordinary": alone()})
    assert "conv2d (3 of 4 calls)" in text
    assert "**BatchNorm in eval mode never moved a bit**: 0 of its 4 calls" in text
    text = report_cause.verdict(still, {"ordinary": alone(), "65536 samples": alone("sample 0")})
    assert "moved, but not in these models" in text and "first: 65536 samples" in text
    moving = {"resnet34, defaults": examined(conv2d=kind(0), batch_norm=kind(1))}
    text = report_cause.verdict(moving, {"ordinary": alone()})
    assert "**BatchNorm in eval mode moved bits**: 1 of its 4 calls" in text
    assert "these moved: batch_norm (1 of 4 calls)" in text


def test_the_verdict_without_rows() -> None:
    assert report_cause.section({}) == ""
    assert report_cause.verdict({}, {}) == "BatchNorm was not examined."
    text = report_cause.section({"batch_norm large": {"left_out": "needs 26 GiB of memory"}})
    assert "BatchNorm was not examined." in text and "large needs 26 GiB" in text


def test_a_report_of_nothing() -> None:
    text = report.build({})
    assert all(f"| {stage.name} | **not run** |" in text for stage in STAGES)


def test_a_report_of_failures_and_of_what_is_missing() -> None:
    wrong = {"ok": False, "compared": 9, "differed": 2, "first": "batch 3 of NaN, position 1: |x|"}
    setting = {"model": "resnet50", "dtype": "float32", "batch_size": 32, "eager_ratio": 0.9}
    ratios = {"stock NCHW": 1.21, "stock NCHW, TF32": 0.4, "compiled, TF32": 0.3}
    speed = {**setting, "ratio": 1.21, "best_stock": "stock NCHW", "ratios": ratios}
    documents = {
        "run": {
            "about": {"slug": "nvidia-h200", "gpu": "NVIDIA H200", "torch": "2.11"},
            "stages": {
                "matrix": {"status": "failed", "seconds": 30, "why": "1 of 2"},
                "bench_conv": {"status": "unfinished", "seconds": 35, "why": "its time was over"},
            },
        },
        "matrix": {
            "total": 2,
            "rows": {"resnet50 float32": wrong, "resnet34 float32": {"error": "out of memory"}},
        },
        "models": {"summary": [speed], "rows": [speed]},
    }
    text = report.build(documents, ["models.png"])
    assert text.startswith("# bninv on a GPU\n\nNVIDIA H200, torch 2.11\n")
    assert "| matrix | **failed** | 30 | 1 of 2 |" in text
    assert "| bench_conv | **unfinished** | 35 |" in text and "| suite | **not run** |" in text
    assert "### matrix: resnet50 float32" in text and "out of memory" in text
    assert "| resnet50 float32 | 9 | 2 | batch 3 of NaN, position 1: \\|x\\| |" in text
    assert "| resnet50 | float32 | 32 | 1.21 | stock NCHW | 0.90 | 0.30 | 0.30 |" in text
    assert "![models.png](models.png)" in text


def test_an_emulated_report_says_that_it_is_one(tmp_path: Path) -> None:
    from benchmarks.gpu import run as command

    record.write(tmp_path / "run.json", {"about": {"slug": "emulated"}, "stages": {}})
    assert command.main(["--report", str(tmp_path)]) == 0
    title = (tmp_path / "report.md").read_text().splitlines()[0]
    assert "emulated" in title and "no GPU" in title


def test_documents_survive_json(tmp_path: Path) -> None:
    document = {"digest": "d", "total": 1, "rows": {"a": {"ok": True, "list": [1, 2]}}}
    record.write(tmp_path / "x.json", document)
    assert json.loads((tmp_path / "x.json").read_text()) == document
