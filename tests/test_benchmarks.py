"""The benchmarks against stock end to end, on tiny inputs: on the CPU, and with a GPU faked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bninv import _extension

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import batch_norm_report
import bench_batch_norm
import bench_conv
import bench_models
import conv_candidates
import cuda_timing
import fake_cuda
import model_candidates
import network_convolutions
import plot_conv
import plot_style
import references

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.FakeCuda]:
    # Before there seems to be a GPU for which to compile.
    _extension.load()
    fake = fake_cuda.FakeCuda()
    fake.install(monkeypatch)
    # A mode is a thread's own.
    with fake_cuda.OnCpu() as mode, ThreadPoolExecutor(1, initializer=mode.__enter__) as pool:
        monkeypatch.setattr(bench_models, "SEARCHING", pool)
        yield fake
    model_candidates.networks.cache_clear()


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_models, "PIXELS", 32)


def run(module: Any, folder: Path, *options: str) -> dict[str, Any]:
    """What the script writes."""
    module.main(["--folder", str(folder), "--seconds", "0.01", "--no-plot", *options])
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


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
        assert row["failures"] == {}
        for name, t in times.items():
            assert 0 < t["low"] <= t["median"] <= t["high"] and t["runs"] >= 3
            assert row["images_per_s"][name] == pytest.approx(
                1e3 * row["batch_size"] / t["median"], rel=1e-4
            )
        best = min(times["stock NCHW"]["median"], times["stock channels_last"]["median"])
        assert row["ratio"] == pytest.approx(best / times["patched"]["median"], rel=1e-3)
    assert "test_resnet, float32, batch 2" in capsys.readouterr().out


def test_models_on_cuda(
    tmp_path: Path, cuda: fake_cuda.FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    cuda.planted = {
        "stock NCHW": 6.0,
        "stock channels_last": 4.0,
        "stock channels_last, TF32": 1.0,
        "stock channels_last, benchmark": 3.0,
        "stock NCHW, benchmark": 5.0,
        "compiled channels_last": 2.0,
        "folded channels_last": 1.5,
        "sample by sample": 12.0,
        "cuDNN off": 20.0,
        "patched": 2.0,
        "patched unfused": 2.5,
    }

    def watch(name: str) -> None:
        """A candidate's name says under which switches it runs, and in which thread."""
        cudnn, searching = torch.backends.cudnn, "benchmark" in name
        assert cudnn.benchmark == searching
        assert cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == ("TF32" in name)
        assert cudnn.enabled == (name != "cuDNN off")
        if searching:
            assert threading.current_thread() is not threading.main_thread()
        assert torch.is_inference_mode_enabled()

    cuda.watch = watch
    found = run(bench_models, tmp_path, *MODELS, "--dtypes", "float32,bfloat16")
    assert found["machine"]["gpu"] == "NVIDIA Fake 100"
    rows = {(r["dtype"], r["batch_size"], r["group"]): r for r in found["rows"]}
    assert len(rows) == len(found["rows"]) == 2 * 2 * 3
    row = rows["float32", 2, "eager"]
    assert row["failures"] == {}
    assert row["ratio"] == row["eager_ratio"] == 2.0
    assert row["best_stock"] == "stock channels_last"
    assert row["ratios"]["stock channels_last, TF32"] == 0.5
    assert row["eager_ratios"]["sample by sample"] == 6.0
    assert row["milliseconds"]["patched unfused"]["median"] == pytest.approx(2.5)
    assert row["images_per_s"]["patched"] == pytest.approx(1000.0)
    assert row["images_per_s"]["cuDNN off"] == pytest.approx(100.0)
    assert row["peak_mib"]["patched"] >= 0
    assert not {"sample by sample", "cuDNN off"} & {*row["milliseconds"], *cuda.captured}
    assert rows["float32", 2, "cudnn.benchmark"]["ratio"] == 1.5
    assert rows["float32", 2, "compiled"]["ratios"]["compiled channels_last"] == 1.0
    assert not any("TF32" in name for name in rows["bfloat16", 2, "eager"]["ratios"])
    # The headline: stock with cudnn.benchmark was the fastest in IEEE arithmetic.
    summary = {(s["dtype"], s["batch_size"]): s for s in found["summary"]}
    assert summary["float32", 1]["ratio"] == 1.5
    assert summary["float32", 1]["best_stock"] == "stock channels_last, benchmark"


def test_the_most_important_rows_come_first(cuda: fake_cuda.FakeCuda) -> None:
    class Given:
        device, compile = "cuda", True
        models = bench_models.ON_CUDA["models"]
        batch_sizes = bench_models.ON_CUDA["batch_sizes"]
        dtypes = bench_models.ON_CUDA["dtypes"]

    keys = bench_models.plan(Given())
    assert len(set(keys)) == len(keys) == 6 * 4 * 3 * 3
    assert str(keys[0]) == "resnet50 float32 batch 32 eager"
    firsts = {key.model: i for i, key in reversed([*enumerate(keys)])}
    assert max(firsts.values()) < 20
    assert max(i for i, key in enumerate(keys) if key.dtype == "float16") == len(keys) - 1


def test_a_run_resumes_after_its_last_row(tmp_path: Path, cuda: fake_cuda.FakeCuda) -> None:
    options = (*MODELS, "--dtypes", "bfloat16", "--no-compile")
    measured = []
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
    tmp_path: Path, cuda: fake_cuda.FakeCuda, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(bench_models, tmp_path, *MODELS, "--dtypes", "bfloat16", "--budget", "1e-9")["rows"]
    assert len(rows) == 1
    assert "5 of 6 are left" in capsys.readouterr().err


def test_a_failure_is_recorded_and_the_others_are_timed(
    tmp_path: Path, cuda: fake_cuda.FakeCuda, monkeypatch: pytest.MonkeyPatch
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
    good, failures = bench_models.check(runs, (x,), torch.float32)
    assert good.keys() == {"stock", "patched"}
    assert failures["wrong"] == "its result is 1 of the greatest element off"
    assert "nan" in failures
    # Then it is rather the patched one that is wrong.
    runs["stock"] = bench_models.Candidate(lambda x: 3 * x, baseline=True)
    with pytest.raises(RuntimeError, match="no stock result is patched's"):
        bench_models.check(runs, (x,), torch.float32)


def test_an_unavailable_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        bench_models.main(["--device", "cuda"])
    assert "argument --device: torch finds no GPU" in capsys.readouterr().err


LAYERS = {
    network_convolutions.Convolution(8, 8, 4, 4, 3, 1, 1): 2,
    network_convolutions.Convolution(8, 8, 4, 2, 3, 2, 8): 1,
}
CONV = ("--models", "resnet50", "--batch-sizes", "2")


@pytest.fixture
def small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_conv, "convolutions", lambda model: LAYERS)
    references_of = {"gemm_tflops": lambda device: 0.5, "copy_gb_per_s": lambda device: 10.0}
    for name, function in references_of.items():
        monkeypatch.setattr(references, name, function)


def test_conv_on_the_cpu(tmp_path: Path, small_layers: None) -> None:
    found = run(bench_conv, tmp_path, *CONV, "--device", "cpu")
    assert [(row["operation"], row["conv"]) for row in found["rows"]] == [
        (operation, conv)
        for operation in ("conv", "conv_bn_relu")
        for conv in ("8 -> 8, 3x3 / 1, 4x4", "8 -> 8, 3x3 / 2, 4x4, depthwise")
    ]
    assert {name for row in found["rows"][:2] for name in row["milliseconds"]} == {
        *conv_candidates.BASELINES,
        "bninv",
    }
    assert {*found["rows"][2]["milliseconds"]} > {"folded channels_last", "bninv unfused", "bninv"}
    assert found["failed"] == []


def test_conv_on_cuda(tmp_path: Path, small_layers: None, cuda: fake_cuda.FakeCuda) -> None:
    cuda.planted = {
        "stock NCHW": 3e-3,
        "stock channels_last": 2e-3,
        "stock channels_last, TF32": 0.5e-3,
        "folded channels_last": 1.5e-3,
        "bninv unfused": 2e-3,
        "bninv": 1e-3,
    }

    def watch(name: str) -> None:
        assert torch.backends.cudnn.benchmark == ("bninv" not in name)
        assert torch.backends.cudnn.allow_tf32 == ("TF32" in name)

    cuda.watch = watch
    found = run(bench_conv, tmp_path, *CONV, "--dtypes", "float32,bfloat16")
    assert len(found["rows"]) == 2 * 2 * 2
    row = found["rows"][0]
    assert row["ratio"] == 2.0 and row["best_stock"] == "stock channels_last"
    assert row["milliseconds"]["bninv"]["median"] == pytest.approx(1e-3)
    # 2 images of 4 x 4 pixels, 8 channels of 9 * 8 terms, in a microsecond.
    assert row["flop"] == 2 * 2 * 16 * 8 * 72
    assert row["tflops"]["bninv"] == pytest.approx(row["flop"] / 1e6, rel=1e-3)
    assert row["fraction_of_gemm"]["bninv"] == pytest.approx(row["flop"] / 1e6 / 0.5, abs=1e-4)
    assert row["bytes_moved"] == 4 * (2 * 16 * (8 + 8) + 8 * 72)
    assert row["fraction_of_copy"]["bninv"] == pytest.approx(row["bytes_moved"] / 1e4, rel=1e-3)
    fused = found["rows"][2]["milliseconds"]
    assert fused["bninv unfused"]["median"] == pytest.approx(2e-3)
    assert "folded channels_last, TF32" in fused
    assert {name for name in found["rows"][4]["milliseconds"] if "TF32" in name} == set()
    # Two layers of the first kind, one of the second.
    assert found["networks"][0]["milliseconds"]["stock NCHW"] == pytest.approx(9e-3)
    assert found["networks"][0]["ratio"] == pytest.approx(2.0)


def test_the_inputs_of_a_replay_do_not_fit_the_l2(
    tmp_path: Path, small_layers: None, cuda: fake_cuda.FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    interleave = cuda_timing.interleave

    def look(runs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append({layer.x.data_ptr() for layer in inputs})
        moved = sum(t.nbytes for layer in inputs for t in (layer.x, layer.weight))
        assert moved > torch.cuda.get_device_properties().L2_cache_size
        return interleave(runs, inputs, *args, **kwargs)

    monkeypatch.setattr(cuda_timing, "interleave", look)
    run(bench_conv, tmp_path, *CONV, "--dtypes", "float32")
    assert all(len(pointers) > 1 for pointers in seen) and len(seen) == 4


def test_a_row_that_fails_is_written_down_and_ends_in_a_failure(
    tmp_path: Path, small_layers: None, cuda: fake_cuda.FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = bench_conv.measure

    def fail(item: Any, *args: Any) -> Any:
        if item.conv.depthwise:
            raise torch.OutOfMemoryError("planted")
        return measure(item, *args)

    monkeypatch.setattr(bench_conv, "measure", fail)
    with pytest.raises(SystemExit, match="2 failed"):
        run(bench_conv, tmp_path, *CONV, "--dtypes", "float32")
    found = json.loads((tmp_path / "conv.json").read_text())
    assert len(found["rows"]) == 2
    assert found["failed"][0] == {
        "item": "float32, batch 2, conv 8 -> 8, 3x3 / 2, 4x4, depthwise",
        "error": "OutOfMemoryError: planted",
    }


@pytest.fixture
def small_norms(monkeypatch: pytest.MonkeyPatch, small_layers: None) -> None:
    networks = {"resnet34": {(4, 6): {"relu": 2, "add_relu": 1}, (8, 3): {"batch_norm": 1}}}
    for module in (bench_batch_norm, batch_norm_report):
        monkeypatch.setattr(module, "NETWORKS", networks)


NORM = ("--models", "resnet34", "--batch-sizes", "2", "--dtypes", "float32,float16")


def test_batch_norm_on_the_cpu(tmp_path: Path, small_norms: None) -> None:
    found = run(bench_batch_norm, tmp_path, *NORM, "--device", "cpu")
    rows = found["rows"]
    # What the network has comes first, then each operation at each shape.
    assert len(rows) == 2 * 2 * 2 * 3
    assert {row["operation"] for row in rows[:6]} == {"relu", "add_relu", "batch_norm"}
    assert {*rows[0]["milliseconds"]} == {"stock", "bninv", "bninv_unfused"}
    assert len(found["networks"]) == 4


def test_batch_norm_on_cuda(tmp_path: Path, small_norms: None, cuda: fake_cuda.FakeCuda) -> None:
    cuda.planted = {"stock_cudnn": 4e-3, "stock_native": 3e-3, "bninv": 2e-3, "bninv_unfused": 5e-3}

    def watch(name: str) -> None:
        assert torch.backends.cudnn.enabled == (name != "stock_native")

    cuda.watch = watch
    found = run(bench_batch_norm, tmp_path, *NORM)
    row = found["rows"][0]
    assert row["ratio"] == 1.5
    assert row["bytes_moved"] == 2 * 4 * 2 * 4 * 36
    assert row["gb_per_s"]["bninv"] == pytest.approx(row["bytes_moved"] / 2e3, rel=1e-3)
    assert row["fraction_of_copy"] == pytest.approx(row["gb_per_s"]["bninv"] / 10, abs=1e-4)
    assert found["networks"][0]["ratio"] == 1.5
    assert found["networks"][0]["milliseconds"]["bninv"] == pytest.approx(8e-3)
    again = run(bench_batch_norm, tmp_path, *NORM, "--resume")
    assert again == found


def test_references_are_timed_by_events(cuda: fake_cuda.FakeCuda) -> None:
    def call() -> None:
        cuda.clock += 7.0

    assert references.median_ms(call, "cuda") == 7.0


@pytest.mark.parametrize(
    ("module", "options"), [(bench_models, MODELS), (bench_conv, CONV), (bench_batch_norm, NORM)]
)
def test_results_are_drawn(
    tmp_path: Path,
    small_norms: None,
    cuda: fake_cuda.FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    options: tuple[str, ...],
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(torch, "compile", lambda model: model)
    run(module, tmp_path, *options, "--dtypes", "float32", "--plot")
    (drawn, *_) = tmp_path.glob("*_float32.png")
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_is_said_how_to_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = plot_style.draw_or_explain(plot_conv.draw, tmp_path / "conv.json")
    assert f"python benchmarks/plot_conv.py {tmp_path}/conv.json" in said


def test_the_scripts_need_nothing_but_torch_and_timm(tmp_path: Path) -> None:
    code = "import sys\n" + "".join(
        f"sys.modules[{name!r}] = None\n" for name in ("typer", "rich", "matplotlib", "scipy")
    )
    folder = Path(bench_conv.__file__).parent
    code += f"sys.path[:0] = [{str(folder)!r}, {str(folder.parent)!r}]\n"
    code += "import bench_models, bench_conv, bench_batch_norm\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
