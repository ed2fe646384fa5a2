"""What the benchmarks against stock are made of."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from benchmarks import plot_conv
from benchmarks.common import cpu_memory, gpu_load, plot_style, references
from benchmarks.common.places import ROOT
from benchmarks.common.result_file import ResultFile
from benchmarks.common.tables import plain
from benchmarks.fold import fold_batch_norm
from tests.support.fake_cuda import FakeCuda

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "options", "remain"),
    [
        ("test_resnet", {}, 0),
        ("test_efficientnet", {}, 0),
        # Its BatchNorms stand before the convolutions, but for a layer's inner one.
        ("densenet121", {"growth_rate": 8, "block_config": (2, 2)}, 2 + 1 + 2 + 1),
    ],
)
def test_batch_norm_is_folded_where_only_it_reads_a_convolution(
    name: str, options: dict[str, Any], remain: int
) -> None:
    torch.manual_seed(0)
    stock = timm.create_model(name, **options).eval()
    for module in stock.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    folded = copy.deepcopy(stock)
    count = fold_batch_norm(folded)
    left = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert count > 0 and len(left) == remain
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = stock(x)
        torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-4 * expected.abs().max())


def test_a_convolution_with_two_readers_keeps_its_batch_norm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    assert fold_batch_norm(Twice().eval()) == 0


def test_peak_memory_on_the_cpu_is_what_a_call_holds() -> None:
    def call() -> None:
        torch.ones(2**24)

    if not cpu_memory.CLEAR.exists():
        pytest.skip("Linux only")
    peak = cpu_memory.peak_bytes(call)
    # The kernel counts pages in lots.
    assert peak == pytest.approx(2**26, abs=2**22)


def test_peak_memory_is_unknown_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_memory, "CLEAR", tmp_path / "missing" / "clear_refs")
    assert cpu_memory.peak_bytes(lambda: None) is None


def test_a_table_is_aligned() -> None:
    text = plain("title", ("", "long\nheading"), [("a", "1.0"), ("bcd", "10.0")])
    assert text.splitlines() == [
        "",
        "title",
        "",
        "        long",
        "     heading",
        "---  -------",
        "a        1.0",
        "bcd     10.0",
    ]


def results(path: Path, machine: dict[str, Any], *, resume: bool = False) -> ResultFile:
    return ResultFile(path, machine, {}, lambda rows: {"counts": [{"n": len(rows)}]}, resume=resume)


def test_a_file_is_resumed_on_the_same_machine_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    first = results(path, {"gpu": "a"})
    first.measured["copy"] = 1.0
    first.rows.append({"case": 1})
    first.write()
    assert json.loads(path.read_text())["counts"] == [{"n": 1}]
    again = results(path, {"gpu": "a"}, resume=True)
    assert again.rows == [{"case": 1}] and again.measured == {"copy": 1.0}
    assert {"case": 1} in again and {"case": 2} not in again
    other = results(path, {"gpu": "b"}, resume=True)
    assert other.rows == [] and other.measured == {}
    assert "not resumed but replaced: its machine was {'gpu': 'a'}" in capsys.readouterr().err
    assert results(path, {"gpu": "a"}).rows == []


def test_references_are_timed_by_events(fake_gpu: FakeCuda) -> None:
    def call() -> None:
        fake_gpu.clock += 7.0

    assert references.median_ms(call, "cuda") == 7.0


def test_without_matplotlib_it_is_said_how_to_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = plot_style.draw_or_explain(plot_conv.draw, tmp_path / "conv.json")
    assert f"python -m benchmarks.plot_conv {tmp_path}/conv.json" in said


def test_the_scripts_need_nothing_but_torch_and_timm() -> None:
    code = "import sys\n" + "".join(
        f"sys.modules[{name!r}] = None\n" for name in ("typer", "rich", "matplotlib", "scipy")
    )
    code += "from benchmarks import bench_batch_norm, bench_conv, bench_models, bench_tiles\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_load_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "nvidia-smi"
    asked.write_text(
        "#!/bin/sh\nprintf '345, 70.1\\n1755, 610.5\\n1740, 600.5\\n'; exec sleep 60\n"
    )
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found: dict[str, float] = {}
    with gpu_load.watched(found):
        time.sleep(0.3)
    assert found == {"sm_mhz": 1747.5, "watts": 605.5}  # idle at first
    assert gpu_load.medians("") == gpu_load.medians("345, [N/A]\n") == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    none: dict[str, float] = {}
    with gpu_load.watched(none):
        pass
    assert none == {}
