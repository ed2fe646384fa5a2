"""`make gpu`: what the report says of given results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import json_file
from tests.gpu import report, report_cause
from tests.gpu import run as command
from tests.gpu.stages import STAGES

Row = dict[str, Any]


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
    ratios = {"stock NCHW": 1.21, "stock NCHW, TF32": 0.4, "compiled channels_last, TF32": 0.3}
    ratios |= {"stock channels_last, AMP": 0.2, "patched, AMP": 0.5}
    measured = {
        "images_per_s": {"patched": 3742.4},
        "error": {"patched": 1.5e-7, "stock channels_last": 2e-6},
        "peak_mib": {"patched": 245.0},
        "load": {"sm_mhz": 1755.0, "watts": 612.3},
    }
    speed = {**setting, "ratio": 1.21, "best_stock": "stock NCHW", "ratios": ratios, **measured}
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
    figures = "3742 | 0.40 | 1.21 | 0.30 |  | 0.40 | 0.90 | 1755 MHz, 612 W"
    assert f"| resnet50 | float32 | 32 | {figures} |" in text
    assert "| resnet50 | float32 | 32 | 1.5e-07 | 2.0e-06 |  |  |  | 245 |  |" in text
    assert "![models.png](models.png)" in text


def pairs(differ: int = 0, of: int = 1000) -> Row:
    return {"of": of, "differ": differ}


def test_tensor_cores() -> None:
    right = {"class": "H", **{key: pairs() for key in ("model", "numpy", "moved", "permuted")}}
    right |= {"segments": pairs(), "rules": {"one bit more": 30, "class A": 290}}
    moved = {**right, "mma": pairs(), "moved": pairs(7), "rules": {"one bit more": 0}}
    without = {"ok": True, "left_out": "needs nvcc"}
    facts = {"rows": {"m16n8k16_bf16": right, "wgmma_k16_bf16": moved, "m16n8k8_tf32": without}}
    speed = {"rows": {"m16n8k16_bf16": {"best": 650.4, "sustained": 633.6, "warps": 12}}}
    text = report.build({"tensor_facts": facts, "tensor_speed": speed})
    assert "| m16n8k16_bf16 | H | 1,000 | 0 | 0 | 0 | 0 | 0 |  |" in text
    assert "| wgmma_k16_bf16 | H | 1,000 | 0 | 0 | **7 of 1000** | 0 | 0 | 0 |" in text
    assert "| one bit more | 0 % | 3 % |" in text and "m16n8k8_tf32" not in text
    assert "| m16n8k16_bf16 | 650 | 634 | 12 |" in text
    host = {"rows": {"f16, C++ against NumPy": {"ok": True, "compared": 140000}}}
    assert "140000 outputs, 0 formats wrong" in report.build({"tensor_facts": host})
    assert "## Tensor cores" not in report.build({"tensor_facts": {"rows": {"a": without}}})


def test_an_emulated_report_says_that_it_is_one(tmp_path: Path) -> None:
    json_file.write(tmp_path / "run.json", {"about": {"slug": "emulated"}, "stages": {}})
    assert command.main(["--report", str(tmp_path)]) == 0
    title = (tmp_path / "report.md").read_text().splitlines()[0]
    assert "emulated" in title and "no GPU" in title


def test_what_other_sources_gave_is_not_shown() -> None:
    rows = {"total": 1, "rows": {"resnet50": {"compared": 9, "differed": 0}}}
    stages = {"matrix": {"status": "unfinished", "seconds": 0, "digest": "new"}}
    for digest, shown in (("new", True), ("old", False)):
        documents = {"run": {"stages": stages}, "matrix": {"digest": digest, **rows}}
        assert ("| resnet50 | 9 |" in report.build(documents)) == shown


def test_documents_survive_json(tmp_path: Path) -> None:
    document = {"digest": "d", "total": 1, "rows": {"a": {"ok": True, "list": [1, 2]}}}
    json_file.write(tmp_path / "x.json", document)
    assert json.loads((tmp_path / "x.json").read_text()) == document
