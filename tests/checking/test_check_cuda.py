"""bninv.check on a GPU: the patched model runs on the CPU, too, and must have the same bits there.

On an emulated GPU everywhere, on a real one with `-m cuda`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking import cpu
from bninv.checking.bits import same_bits
from bninv.checking.result import CheckResult
from bninv.checking.runner import Runner
from tests.support import emulated
from tests.support.page import Page
from tests.support.small_models import Functional, images, mixes_samples, small_cnn

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (1, 3)
on_gpu = False  # whether the emulated GPU is running the model


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose tensors stay on the CPU; patched models run on the emulated kernels there."""
    original = Runner.patched

    def patched(self: Runner, model: nn.Module) -> object:
        global on_gpu
        on_gpu = True
        try:
            with emulated.Redirected() as mode:
                side = original(self, model)
        finally:
            on_gpu = False
        assert mode.seen
        return side

    monkeypatch.setattr(Runner, "patched", patched)
    monkeypatch.setattr(Runner, "device", torch.device("cuda", 0))


def last_bit(x: Tensor) -> Tensor:
    """Another one on the GPU, in one element of each sample."""
    if on_gpu:
        x = x.clone()
        x[:, 0] = x[:, 0].nextafter(torch.tensor(99.0))
    return x


def sign_on_gpu(x: Tensor) -> Tensor:
    return -x if on_gpu else x


def nan_on_gpu(x: Tensor) -> Tensor:
    return x * float("nan") if on_gpu else x


def at_the_end(function: Callable[[Tensor], Tensor]) -> nn.Sequential:
    """With the plant behind the last layer: what it does is what is seen."""
    model = small_cnn()
    model.add_module("plant", Functional(function))
    return model


def printed(result: CheckResult, width: int) -> list[str]:
    from rich.console import Console  # not on every machine with a GPU

    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True, highlight=False).print(result)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


# ---- Equal bits ----------------------------------------------------------------------------------


def test_the_cpu_has_the_bits_of_the_gpu(gpu: None) -> None:
    seen = []
    result = bninv.check(small_cnn(), images(12), SIZES, progress=lambda *a: seen.append(a))
    assert result.invariant and result.equals_cpu is True and result.passed
    assert result.device == "cuda:0"
    assert result.cpu.digests == result.patched.digests[:8]
    (row,) = result.cpu.rows
    assert (row.batch_size, row.differing, row.elements) == (8, 0, 80)
    assert (row.max_abs, row.max_ulp, row.top1_changed) == (0, 0, 0)
    assert seen[-1][1] == seen[-1][2]
    text = " ".join(str(result).split())
    assert "the CPU has the bits of cuda:0 in all 80 outputs of 8 of the 12 samples." in text


def test_fewer_samples_are_all_compared(gpu: None) -> None:
    result = bninv.check(small_cnn(), images(3), (1, 2))
    assert [row.batch_size for row in result.cpu.rows] == [3]
    assert "in all 30 outputs of 3 samples." in " ".join(str(result).split())


def test_a_patched_model_and_every_layout(gpu: None) -> None:
    expected = bninv.check(small_cnn(), images(), SIZES).cpu.digests
    model = bninv.patch(small_cnn(), fuse=False)
    inputs = images().to(memory_format=torch.channels_last)
    result = bninv.check(model, inputs, SIZES, grad_mode="inference_mode")
    assert result.equals_cpu is True
    assert result.cpu.digests == result.patched.digests == expected


def test_on_the_cpu_nothing_is_compared() -> None:
    result = bninv.check(small_cnn(), images(), SIZES)
    assert result.cpu is None and result.equals_cpu is None and result.passed
    assert "cpu" not in result.to_dict()
    assert "on the CPU" not in str(result)


# ---- Other bits ----------------------------------------------------------------------------------


def test_one_bit_is_enough(gpu: None) -> None:
    result = bninv.check(at_the_end(last_bit), images(), SIZES)
    assert result.invariant and result.equals_cpu is False and not result.passed
    (row,) = result.cpu.rows
    assert (row.differing, row.elements, row.max_ulp, row.top1_changed) == (4, 40, 1, 0)
    assert 0 < row.max_abs < 1e-6
    assert result.cpu.digests != result.patched.digests
    words = " ".join(str(result).split())
    assert "beside any neighbour. But:" in words
    assert "the CPU has OTHER bits than cuda:0 in 4 of 40 outputs of 4 samples." in words


def test_top1_and_nan_are_counted_as_elsewhere(gpu: None) -> None:
    (row,) = bninv.check(at_the_end(sign_on_gpu), images(), SIZES).cpu.rows
    assert (row.differing, row.top1_changed) == (40, 4) and row.max_abs > 0.1
    result = bninv.check(at_the_end(nan_on_gpu), images(), SIZES)
    (row,) = result.cpu.rows
    assert row.differing == 40 and row.max_ulp is None
    assert result.to_dict()["cpu"]["rows"][0]["max_abs"] is None
    assert "NaN or Inf" in str(result)


def test_what_is_uncovered_excuses_other_bits(gpu: None) -> None:
    """But it does not make them pass."""
    model = at_the_end(lambda x: x.sinc() if on_gpu else x)
    result = bninv.check(model, images(), SIZES)
    assert not result.passed and result.equals_cpu is False
    assert "PyTorch's own, with other kernels on each device" in " ".join(str(result).split())


def test_a_batch_that_matters_is_told_apart(gpu: None) -> None:
    """`invariant` is about the batch, whatever the CPU says."""
    result = bninv.check(small_cnn(Functional(mixes_samples)), images(), SIZES)
    assert not result.invariant and not result.passed
    assert result.cpu is not None


# ---- What is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [70, 80, 100])
def test_the_table_has_a_third_part(gpu: None, width: int) -> None:
    result = bninv.check(at_the_end(last_bit), images(12), SIZES)
    lines = printed(result, width)
    assert max(map(len, lines)) <= width
    row = lines.index(" on the CPU") - 1
    assert "8 of 80" in lines[row]
    assert lines[row].startswith(" patched ") and lines[row - 1] == lines[row + 2] == ""
    assert "On the CPU: other bits than on cuda:0, of 8 of the 12 samples." in " ".join(
        " ".join(lines).split()
    )


def test_json(gpu: None) -> None:
    body = json.loads(bninv.check(small_cnn(), images(), SIZES).to_json())
    assert body["device"] == "cuda:0" and body["passed"] is True
    assert set(body["cpu"]) == {"equal", "rows", "digests", "reason"}
    assert body["cpu"]["equal"] is True and body["cpu"]["reason"] == ""
    assert [set(row) for row in body["cpu"]["rows"]] == [set(body["patched"]["rows"][0])]


def test_the_page(gpu: None) -> None:
    equal = Page(bninv.check(small_cnn(), images(), SIZES).to_html()).words
    assert "patched on the CPU 4 0 of 40 0 0 0" in equal
    assert "On the CPU: other bits than on cuda:0, of 4 samples. One ulp" in equal
    result = bninv.check(at_the_end(last_bit), images(), SIZES)
    page = Page(result.to_html())
    assert "Not passed" in page.words and "the CPU has OTHER bits than cuda:0" in page.words
    # A line above each part but the first, which is below the head.
    assert [a for a in page.attributes if a == ("tr", "class", "first")] == [
        ("tr", "class", "first")
    ] * 3


# ---- Where the CPU cannot ------------------------------------------------------------------------


def test_a_model_too_large_for_the_cpu_is_no_failure(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "available_memory", lambda: 1000)
    result = bninv.check(small_cnn(), images(), SIZES)
    assert result.passed and result.equals_cpu is None
    assert result.cpu.rows == [] and result.cpu.reason == "it does not fit the memory"
    line = "Patched: not compared with the CPU: it does not fit the memory"
    assert line in str(result)
    assert "on the CPU" not in str(result)
    page = Page(result.to_html()).words
    assert line in page and "patched on the CPU" not in page
    assert result.to_dict()["cpu"]["rows"] == []


def test_a_model_that_only_a_gpu_can_run(gpu: None) -> None:
    def needs_gpu(x: Tensor) -> Tensor:
        if not on_gpu and not running_stock:
            raise RuntimeError("no kernel\nfor this")
        return x

    running_stock = True
    model = small_cnn(Functional(needs_gpu))
    original = Runner.stock

    def stock(self: Runner, model: nn.Module) -> object:
        nonlocal running_stock
        side = original(self, model)
        running_stock = False
        return side

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "stock", stock)
        result = bninv.check(model, images(), SIZES)
    assert result.passed and result.equals_cpu is None
    assert result.cpu.reason == "RuntimeError: no kernel for this"


# ---- What must stay as it was --------------------------------------------------------------------


def unchanged(model: nn.Module, check: Callable[[], object]) -> None:
    def facts() -> list[object]:
        named = model.state_dict(keep_vars=True)
        return [(n, id(t), t.data_ptr(), t.device, t.stride()) for n, t in named.items()]

    before, bits = facts(), copy.deepcopy(model.state_dict())
    classes = [type(module) for module in model.modules()]
    check()
    assert facts() == before
    assert [type(module) for module in model.modules()] == classes
    assert all(same_bits(model.state_dict()[name], value) for name, value in bits.items())


@pytest.mark.parametrize("patched", [False, True])
def test_the_users_model_is_left_alone(gpu: None, patched: bool) -> None:
    model = small_cnn().to(memory_format=torch.channels_last)
    if patched:
        bninv.patch(model)
    unchanged(model, lambda: bninv.check(model, images(), SIZES))


# ---- On a GPU ------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_on_a_gpu(dtype: torch.dtype) -> None:
    model = small_cnn().to("cuda", dtype)
    inputs = images(12).to("cuda", dtype)
    results: list[CheckResult] = []
    unchanged(model, lambda: results.append(bninv.check(model, inputs, SIZES)))
    (result,) = results
    assert result.passed and result.equals_cpu is True
    assert result.cpu.digests == result.patched.digests[:8]
    assert {p.device.type for p in model.parameters()} == {"cuda"}


def command(folder: Path, *options: str) -> tuple[list[str], str]:
    """Arguments for a network of timm's and pictures of noise; and where bninv is."""
    for name in ("timm", "typer", "rich", "safetensors"):
        pytest.importorskip(name)
    image = pytest.importorskip("PIL.Image")
    (folder / "photos").mkdir()
    for number in range(3):
        image.effect_noise((64, 64), 20 + 30 * number).save(folder / f"photos/{number}.png")
    photos = str(folder / "photos")
    options = ("--device", "auto", "--batch-sizes", "1,3", "--images", photos, *options)
    return ["check", "test_resnet", *options], str(Path(bninv.__file__).parents[1])


def assert_third_part(out: str) -> None:
    assert "float32 on cuda:0" in out
    assert "on the CPU" in [line.strip() for line in out.splitlines()]
    assert "the CPU has the bits of cuda:0 in all 8,000 outputs of 8" in " ".join(out.split())


@pytest.mark.cuda
def test_the_command_takes_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, _ = command(tmp_path, "--json", str(tmp_path / "result.json"))
    from bninv import cli

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["bninv", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 0, out + err
    assert_third_part(out)
    body = json.loads((tmp_path / "result.json").read_text())
    assert body["device"] == "cuda:0" and body["cpu"]["equal"] is True


@pytest.mark.cuda
@pytest.mark.parametrize("repeat", [False, True])
def test_the_command_in_a_process_of_its_own(tmp_path: Path, repeat: bool) -> None:
    arguments, root = command(tmp_path, *(("--repeat", "2") if repeat else ()))
    ended = subprocess.run(
        [sys.executable, "-m", "bninv", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    if repeat:
        assert "float32 on cuda:0" in ended.stdout
    else:
        assert_third_part(ended.stdout)
