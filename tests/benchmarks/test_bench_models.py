"""bench_models.py end to end, on a tiny model: on the CPU, and with a GPU faked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bench_models
from tests.support.fake_cuda import FakeCuda, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_models, "PIXELS", 32)


MODELS = ("--models", "test_resnet", "--batch-sizes", "2,1")


def test_models_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(bench_models, tmp_path, *MODELS, "--device", "cpu")
    assert [(row["batch_size"], row["group"]) for row in found["rows"]] == [
        (2, "eager"),
        (1, "eager"),
    ]
    for row in found["rows"]:
        times = row["milliseconds"]
        single = {"sample by sample"} if row["batch_size"] > 1 else set()
        assert times.keys() == single | {
            "stock NCHW",
            "stock channels_last",
            "folded channels_last",
            "patched",
            "patched unfused",
        }
        assert row["failures"] == {} and row["uncovered"] == []
        for name, t in times.items():
            assert 0 < t["low"] <= t["median"] <= t["high"] and t["runs"] >= 3
            assert row["images_per_s"][name] == pytest.approx(
                1e3 * row["batch_size"] / t["median"], rel=1e-4
            )
        best = min(times["stock NCHW"]["median"], times["stock channels_last"]["median"])
        assert row["ratio"] == pytest.approx(best / times["patched"]["median"], rel=1e-3)
    assert "test_resnet, float32, batch 2" in capsys.readouterr().out


def test_models_on_cuda(
    tmp_path: Path, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    fake_gpu.planted = {
        "stock NCHW": 6.0,
        "stock channels_last": 4.0,
        "stock channels_last, TF32": 1.0,
        "stock channels_last, benchmark": 3.0,
        "stock NCHW, benchmark": 5.0,
        "compiled channels_last": 2.0,
        "folded channels_last": 1.5,
        "sample by sample": 12.0,
        "cuDNN off": 20.0,
        "stock channels_last, AMP": 0.8,
        "patched": 2.0,
        "patched, AMP": 1.6,
        "patched unfused": 2.5,
    }

    called: set[str] = set()

    def watch(name: str) -> None:
        """A candidate's name says under which switches it runs, and in which thread."""
        cudnn, searching = torch.backends.cudnn, "benchmark" in name
        assert cudnn.benchmark == searching
        assert cudnn.allow_tf32 == ("TF32" in name)
        assert not torch.backends.cuda.matmul.allow_tf32  # as PyTorch's default is
        assert cudnn.enabled == (name != "cuDNN off")
        if searching:
            assert threading.current_thread() is not threading.main_thread()
        assert torch.is_inference_mode_enabled()
        called.add(name)

    fake_gpu.watch = watch
    found = run(bench_models, tmp_path, *MODELS, "--dtypes", "float32,bfloat16")
    assert found["machine"]["gpu"] == "NVIDIA Fake 100"
    rows = {(r["dtype"], r["batch_size"], r["group"]): r for r in found["rows"]}
    # What every network has, and what one has at one batch size.
    assert len(rows) == len(found["rows"]) == 2 * (2 * 2 + 2)
    assert called == fake_gpu.planted.keys() | {
        *("stock NCHW, TF32", "stock NCHW, TF32, benchmark", "folded channels_last, TF32"),
        *("stock channels_last, TF32, benchmark", "compiled channels_last, TF32"),
        "compiled channels_last, AMP",
    }
    row = rows["float32", 2, "eager"]
    assert row["failures"] == {}
    assert row["ratio"] == row["eager_ratio"] == 2.0
    assert row["best_stock"] == "stock channels_last"
    assert row["ratios"]["stock channels_last, TF32"] == 0.5
    assert row["ratios"]["stock channels_last, AMP"] == 0.4 and row["ratios"]["patched, AMP"] == 0.8
    assert row["images_per_s"]["patched"] == pytest.approx(1000.0)
    assert row["peak_mib"]["patched"] >= 0
    # All are the CPU's here: in float32 by far closer to float64 than in bfloat16.
    assert 0 < row["error"]["patched"] < 1e-5 < row["error"]["patched, AMP"] < 0.1
    other = rows["float32", 2, "others"]
    assert other["eager_ratios"]["sample by sample"] == 6.0
    assert other["milliseconds"]["patched unfused"]["median"] == pytest.approx(2.5)
    assert other["images_per_s"]["cuDNN off"] == pytest.approx(100.0)
    assert not {"sample by sample", "cuDNN off"} & {*other["milliseconds"], *fake_gpu.captured}
    assert rows["float32", 2, "cudnn.benchmark"]["ratio"] == 1.5
    assert rows["bfloat16", 2, "compiled"]["ratios"]["compiled channels_last"] == 1.0
    assert not any("TF32" in name for name in rows["bfloat16", 2, "eager"]["ratios"])
    # The headline: stock with cudnn.benchmark was the fastest in IEEE arithmetic.
    summary = {(s["dtype"], s["batch_size"]): s for s in found["summary"]}
    assert summary["float32", 2]["ratio"] == 1.5
    assert summary["float32", 2]["best_stock"] == "stock channels_last, benchmark"
    assert summary["float32", 1]["best_stock"] == "stock channels_last"
    assert summary["float32", 2]["ratios"]["compiled channels_last, TF32"] == 0.5


def test_the_most_important_rows_come_first(fake_gpu: FakeCuda) -> None:
    class Given:
        device, compile = "cuda", True
        models = bench_models.ON_CUDA["models"]
        batch_sizes = bench_models.ON_CUDA["batch_sizes"]
        dtypes = bench_models.ON_CUDA["dtypes"]

    keys = bench_models.plan(Given())
    assert len(set(keys)) == len(keys) == 3 * (6 * 3 * 2 + 2)
    assert [str(key).removeprefix("resnet50 float32 batch ") for key in keys[:3]] == [
        *("32 eager", "32 compiled", "256 eager")
    ]
    firsts = {key.model: i for i, key in reversed([*enumerate(keys)])}
    assert max(firsts.values()) < 15
    assert max(i for i, key in enumerate(keys) if key.dtype == "float16") == len(keys) - 1


def test_a_run_resumes_after_its_last_row(tmp_path: Path, fake_gpu: FakeCuda) -> None:
    options = (*MODELS, "--dtypes", "bfloat16", "--no-compile")
    measured: list[Any] = []
    measure = bench_models.measure

    def cut_short(key: Any, given: Any) -> dict[str, Any]:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(key)
        return measure(key, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_models, "measure", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(bench_models, tmp_path, *options)
    (path,) = tmp_path.glob("*.json")
    before = json.loads(path.read_text())["rows"]
    assert len(before) == 3
    after = run(bench_models, tmp_path, *options, "--resume")["rows"]
    assert after[:3] == before and len(after) == 4
    # Other arguments: nothing is taken over.
    rows = run(bench_models, tmp_path, *options, "--resume", "--batch-sizes", "1")["rows"]
    assert {row["batch_size"] for row in rows} == {1}


def test_the_budget_ends_a_run(
    tmp_path: Path, fake_gpu: FakeCuda, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(bench_models, tmp_path, *MODELS, "--dtypes", "bfloat16", "--budget", "1e-9")["rows"]
    assert len(rows) == 1
    assert "5 of 6 are left" in capsys.readouterr().err


def test_a_failure_is_recorded_and_the_others_are_timed(
    tmp_path: Path, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(model: Any) -> Any:
        def call(x: torch.Tensor) -> torch.Tensor:
            while True:
                pass

        return call

    monkeypatch.setattr(torch, "compile", endless)
    options = (*MODELS, "--dtypes", "bfloat16", "--compile-seconds", "0.1")
    found = run(bench_models, tmp_path, *options)
    (row, _) = [row for row in found["rows"] if row["group"] == "compiled"]
    assert row["failures"] == {
        "compiled channels_last": "TimeoutError: not compiled in 0.1 seconds"
    }
    assert row["ratio"] == 1.0


def test_a_wrong_result_is_not_timed() -> None:
    x = torch.ones(3)
    runs = {
        "stock": bench_models.Candidate(lambda x: x, baseline=True),
        "wrong": bench_models.Candidate(lambda x: 2 * x),
        "nan": bench_models.Candidate(lambda x: x * torch.nan),
        "patched": bench_models.Candidate(lambda x: x * 1.0001),
    }
    expected = torch.ones(2, dtype=torch.float64)  # of the first samples
    good, errors, failures = bench_models.check(runs, (x,), expected, torch.float32)
    assert good.keys() == errors.keys() == {"stock", "patched"}
    assert errors["stock"] == 0 and errors["patched"] == pytest.approx(1e-4, rel=1e-2)
    assert failures["wrong"] == "its result is 1 of the greatest element off"
    assert "nan" in failures
    for name in ("stock", "patched"):
        wrong = {**runs, name: bench_models.Candidate(lambda x: 3 * x, baseline=name == "stock")}
        with pytest.raises(RuntimeError, match="there is nothing to compare"):
            bench_models.check(wrong, (x,), expected, torch.float32)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--batch-sizes", "8,x", "'x'; it may be a positive integer"),
        ("--threads", "0", "'0'; it may be a positive integer"),
        ("--models", "resnet5", "timm has no 'resnet5'"),
        ("--dtypes", "int8", "'int8'; there are float32, bfloat16, float16"),
    ],
)
def test_a_wrong_option_is_named(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench_models.main(["--device", "cpu", option, value])
    assert f"argument {option}: {said}" in capsys.readouterr().err


def test_an_unavailable_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        bench_models.main(["--device", "cuda"])
    assert "argument --device: torch finds no GPU" in capsys.readouterr().err


def test_throughput_is_drawn(
    tmp_path: Path, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(torch, "compile", lambda model: model)
    run(bench_models, tmp_path, *MODELS, "--dtypes", "float32", "--plot")
    assert (tmp_path / "models_float32.png").read_bytes().startswith(b"\x89PNG")
