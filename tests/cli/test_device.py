"""bninv check --device: what `auto` takes, and what it says where the GPU cannot be used.

With a GPU that is this CPU; a real one is in checking/test_check_cuda.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import bninv
from bninv.building import extension
from bninv.checking import runner
from bninv.checking.runner import Runner
from tests.support.command import FAST, TINY, Ended, Run, command
from tests.support.fake_cuda import FakeCuda, OnCpu

pytest.importorskip("timm")

NO_TOOLKIT = "no CUDA kernels, although a GPU is present: no CUDA toolkit was found: install one"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`bninv check TINY` in this process, in a folder of its own."""
    call = command(monkeypatch, capsys, tmp_path)
    monkeypatch.delenv("BNINV_BUILD", raising=False)
    torch.set_num_threads(1)

    def run(*options: str, model: str = TINY) -> Ended:
        return call("check", model, *FAST, *options)

    return run


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of compute capability 9.0 with kernels for it; all of it is this CPU."""
    extension.load()  # before there seems to be a GPU to compile for
    FakeCuda().install(monkeypatch)
    monkeypatch.setattr(extension, "has_cuda", lambda: True)
    monkeypatch.setattr(extension, "cuda_build", lambda: "13;8.0,9.0")
    monkeypatch.setattr(Runner, "device", torch.device("cuda", 0))
    with OnCpu():
        yield


@pytest.fixture
def bare_gpu(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without kernels, for want of a toolkit."""

    def load(tell: Callable[[str], None] | None = None) -> None:
        (tell or print)(NO_TOOLKIT)

    monkeypatch.setattr(extension, "load", load)
    monkeypatch.setattr(extension, "has_cuda", lambda: False)
    monkeypatch.setattr(Runner, "device", torch.device("cpu"))


def has_third_part(table: str) -> bool:
    return "on the CPU" in [line.strip() for line in table.splitlines()]


# ---- The GPU is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--device", "auto"), ("--device", "cuda")])
def test_the_gpu_is_taken(run: Run, gpu: None, options: tuple[str, ...]) -> None:
    ended = run(*options, "--json", "result.json", "--html", "page.html")
    assert (ended.status, ended.err) == (0, "")
    assert "float32 on cuda:0" in ended.out and has_third_part(ended.out)
    words = " ".join(ended.out.split())
    assert "the CPU has the bits of cuda:0 in all 8,000 outputs of 8 samples." in words
    assert max(map(len, ended.out.splitlines())) <= 96
    body = json.loads(Path("result.json").read_text())
    assert body["device"] == "cuda:0" and body["cpu"]["equal"] is True
    assert "patched on the CPU" in Path("page.html").read_text()


def test_other_bits_on_the_cpu_end_with_1(
    run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = runner.copy_to_cpu

    def planted(model: nn.Module) -> nn.Module:
        made = original(model)
        with torch.no_grad():
            made.fc.bias[3] += 1
        return made

    monkeypatch.setattr(runner, "copy_to_cpu", planted)
    ended = run("--json", "result.json")
    assert (ended.status, ended.err) == (1, "")
    assert "the CPU has OTHER bits than cuda:0 in 8 of 8,000 outputs" in " ".join(ended.out.split())
    body = json.loads(Path("result.json").read_text())
    assert body["passed"] is False and body["cpu"]["equal"] is False
    assert body["patched"]["invariant"] is True
    assert body["cpu"]["rows"][0]["differing"] == 8


def test_what_the_cpu_cannot_run_ends_with_0(
    run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(model: nn.Module) -> nn.Module:
        raise MemoryError

    monkeypatch.setattr(runner, "copy_to_cpu", too_large)
    ended = run()
    assert (ended.status, ended.err) == (0, "")
    words = " ".join(ended.out.split())
    assert "Patched: not compared with the CPU: it does not fit the memory" in words


def test_the_cpu_can_be_asked_for(run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "device", torch.device("cpu"))
    ended = run("--device", "cpu", "--json", "result.json")
    assert (ended.status, ended.err) == (0, "")
    body = json.loads(Path("result.json").read_text())
    assert body["device"] == "cpu" and "cpu" not in body


def test_no_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = run("--json", "-", "--quiet")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["device"] == "cpu"


# ---- It cannot be --------------------------------------------------------------------------------


def falls_back(ended: Ended, message: str) -> None:
    """One line, and the CPU's table."""
    assert ended.status == 0
    (line,) = ended.err.splitlines()
    assert line == f"bninv: checking on the CPU: {message}"
    assert "float32 on cpu" in ended.out and not has_third_part(ended.out)


def fails(ended: Ended, message: str) -> None:
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"bninv: error: {message}\n"


def test_no_kernels(run: Run, bare_gpu: None) -> None:
    falls_back(run(), NO_TOOLKIT)
    fails(run("--device", "cuda"), f"--device cuda: {NO_TOOLKIT}")


def test_a_library_without_kernels(
    run: Run, bare_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed so, or loaded before: nothing was looked for, so nothing is known to be missing."""
    monkeypatch.setattr(extension, "load", lambda tell=None: None)
    ended = run()
    assert ended.status == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("bninv: checking on the CPU: no CUDA kernels, although a GPU is present")
    assert "BNINV_BUILD=cuda compiles them with CUDA, or says what is missing" in line


def test_who_builds_for_the_cpu_is_told_nothing(
    run: Run, bare_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "load", lambda tell=None: None)
    monkeypatch.setenv("BNINV_BUILD", "cpu")
    ended = run()
    assert (ended.status, ended.err) == (0, "")
    assert "float32 on cpu" in ended.out
    assert run("--device", "cuda").status == 2


@pytest.mark.parametrize("wanted", [None, "auto", "cuda"])
def test_kernels_that_do_not_compile(
    run: Run, bare_gpu: None, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    builds: list[str | None] = []

    def load(tell: object = None) -> None:
        if "cpu" in builds:
            return
        builds.append(os.environ.get("BNINV_BUILD"))
        if builds[-1] != "cpu":
            raise bninv.BuildError("building failed; the log is /a.log\n  nvcc error : segfault")

    monkeypatch.setattr(extension, "load", load)
    if wanted:
        monkeypatch.setenv("BNINV_BUILD", wanted)
    message = "building failed; the log is /a.log nvcc error : segfault"
    if wanted == "cuda":  # CUDA or an error
        fails(run(), message)
        return
    falls_back(run(), message)
    assert builds == [wanted, "cpu"] and os.environ.get("BNINV_BUILD") == wanted
    builds.clear()
    fails(run("--device", "cuda"), message)


def test_what_cannot_be_built_at_all_is_an_error(
    run: Run, bare_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(tell: object = None) -> None:
        raise bninv.BuildError("no C++ compiler was found")

    monkeypatch.setattr(extension, "load", load)
    fails(run(), "no C++ compiler was found")


def test_a_gpu_that_the_library_was_not_built_for(
    run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "cuda_build", lambda: "13;7.5,8.0")
    message = (
        "the GPU has compute capability 9.0, and bninv's operators were compiled for 7.5, 8.0: "
        "compile them anew, with 9.0 in TORCH_CUDA_ARCH_LIST"
    )
    fails(run("--device", "cuda"), f"--device cuda: {message}")
    monkeypatch.setattr(Runner, "device", torch.device("cpu"))
    falls_back(run(), message)


def test_a_gpu_that_pytorch_cannot_use(
    run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: object) -> tuple[int, int]:
        raise RuntimeError("CUDA error: the device is busy\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    monkeypatch.setattr(Runner, "device", torch.device("cpu"))
    falls_back(
        run(),
        "PyTorch cannot use the GPU (CUDA error: the device is busy Compile with "
        "TORCH_USE_CUDA_DSA)",
    )


def test_the_name_is_checked_before_anything_is_compiled(
    run: Run, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(tell: object = None) -> None:
        raise AssertionError("compiled for a model that there is not")

    monkeypatch.setattr(extension, "load", load)
    ended = run(model="resnet43")
    assert ended.status == 2 and "did you mean resnet34" in ended.err


# ---- --repeat ------------------------------------------------------------------------------------


def test_repeat_falls_back_in_one_line(run: Run, bare_gpu: None, here: None) -> None:
    ended = run("--repeat", "3", "--json", "result.json")
    falls_back(ended, NO_TOOLKIT)
    body = json.loads(Path("result.json").read_text())
    assert body["device"] == "cpu" and len(body["processes"]) == 3
