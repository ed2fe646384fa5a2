"""bench_conv.py, bench_tiles.py, bench_batch_norm.py end to end, on tiny layers; a GPU faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import batch_norm_report, bench_batch_norm, bench_conv, bench_tiles, conv_candidates
from benchmarks.common import cuda_timing, references
from benchmarks.network_convolutions import Convolution
from tests.support.fake_cuda import FakeCuda, run

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = {
    Convolution(8, 8, 4, 4, 3, 1, 1): 2,
    Convolution(8, 8, 4, 2, 3, 2, 8): 1,
}
CONV = ("--models", "resnet50", "--batch-sizes", "2")


def test_every_tile_and_split_of_a_layer() -> None:
    named = bench_tiles.plans(Convolution(256, 64, 14, 14, 3, 1, 1), batch=2)
    assert named.pop("plan") == (-1, 0)
    # 18 segments, halved; every tile.
    assert {own for tile, own in named.values()} == {18, 9, 5, 3, 2, 1}
    assert {tile for tile, own in named.values()} == {0, 1, 2, 3, 4} and len(named) == 30
    # Three channels are copied one by one, and 49 taps do not fit the bits of a register.
    assert {
        tile for tile, own in bench_tiles.plans(Convolution(3, 64, 9, 9, 7, 1, 1), 1).values()
    } == {*(-1, 2, 4)}
    # Sums of segments that would fill the memory are not tried.
    large = bench_tiles.plans(Convolution(512, 512, 56, 56, 3, 1, 1), batch=32)
    assert {own for tile, own in large.values() if tile >= 0} == {36}


def test_tiles_on_cuda(tmp_path: Path, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_tiles, "convolutions", lambda model: LAYERS)
    for name in ("gemm_tflops", "copy_gb_per_s"):
        monkeypatch.setattr(references, name, lambda device: 1.0)
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(bench_tiles, "set_plan", lambda *plan: chosen.append(plan))
    fake_gpu.planted = {"plan": 4e-3, "64x64, 1 of 1": 2e-3}
    fake_gpu.otherwise = 5e-3
    found = run(bench_tiles, tmp_path, "--batch-sizes", "2", "--dtypes", "float32")
    (row,) = found["rows"]  # the depthwise one has no tiles
    assert row["best"] == "64x64, 1 of 1" and row["ratio"] == pytest.approx(2.0)
    assert row["microseconds"]["plan"] == pytest.approx(4.0)
    assert row["tflops"] == pytest.approx(2 * 2 * 16 * 8 * 72 / 2e6, rel=1e-3)
    # Each is put back to the plan's own choice.
    assert {*chosen} == {(-1, 0), *((tile, 1) for tile in range(5))}
    assert chosen[1::2] == [(-1, 0)] * (len(chosen) // 2)


def test_other_bits_of_a_tile_are_not_timed(
    tmp_path: Path, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_tiles, "convolutions", lambda model: LAYERS)
    for name in ("gemm_tflops", "copy_gb_per_s"):
        monkeypatch.setattr(references, name, lambda device: 1.0)
    genuine = bench_tiles.run

    def faulty(plan: tuple[int, int], *args: Any) -> torch.Tensor:
        return genuine(plan, *args) + (plan[0] == 3)

    monkeypatch.setattr(bench_tiles, "set_plan", lambda *plan: None)
    monkeypatch.setattr(bench_tiles, "run", faulty)
    with pytest.raises(SystemExit, match="128x32, 1 of 1: other bits than the plan's"):
        run(bench_tiles, tmp_path, "--batch-sizes", "2", "--dtypes", "float32")


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
        for operation in ("conv_bn_relu", "conv")
        for conv in ("8 -> 8, 3x3 / 1, 4x4", "8 -> 8, 3x3 / 2, 4x4, depthwise")
    ]
    assert {name for row in found["rows"][2:] for name in row["milliseconds"]} == {
        *conv_candidates.BASELINES,
        "bninv",
    }
    assert {*found["rows"][0]["milliseconds"]} > {"folded channels_last", "bninv unfused", "bninv"}
    assert found["failed"] == []


def test_conv_on_cuda(tmp_path: Path, small_layers: None, fake_gpu: FakeCuda) -> None:
    fake_gpu.planted = {
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

    fake_gpu.watch = watch
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
    fused = row["milliseconds"]
    assert fused["bninv unfused"]["median"] == pytest.approx(2e-3)
    assert "folded channels_last, TF32" in fused
    assert {name for name in found["rows"][4]["milliseconds"] if "TF32" in name} == set()
    assert "bninv unfused" not in found["rows"][2]["milliseconds"]
    # Two layers of the first kind, one of the second.
    assert found["networks"][0]["milliseconds"]["stock NCHW"] == pytest.approx(9e-3)
    assert found["networks"][0]["ratio"] == pytest.approx(2.0)


def test_the_inputs_of_a_replay_do_not_fit_the_l2(
    tmp_path: Path, small_layers: None, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
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
    tmp_path: Path, small_layers: None, fake_gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
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
        "item": "float32, batch 2, conv_bn_relu 8 -> 8, 3x3 / 2, 4x4, depthwise",
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


def test_batch_norm_on_cuda(tmp_path: Path, small_norms: None, fake_gpu: FakeCuda) -> None:
    fake_gpu.planted = {
        "stock_cudnn": 4e-3,
        "stock_native": 3e-3,
        "bninv": 2e-3,
        "bninv_unfused": 5e-3,
    }

    def watch(name: str) -> None:
        assert torch.backends.cudnn.enabled == (name != "stock_native")

    fake_gpu.watch = watch
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


@pytest.mark.parametrize(
    ("module", "options", "names"),
    [
        (bench_conv, CONV, {"conv_float32.png"}),
        (bench_batch_norm, NORM, {"batch_norm_float32.png", "batch_norm_bandwidth.png"}),
    ],
)
def test_results_are_drawn(
    tmp_path: Path,
    small_norms: None,
    fake_gpu: FakeCuda,
    module: Any,
    options: tuple[str, ...],
    names: set[str],
) -> None:
    pytest.importorskip("matplotlib")
    run(module, tmp_path, *options, "--dtypes", "float32", "--plot")
    assert {path.name for path in tmp_path.glob("*.png")} == names
