"""Finding CUDA toolkits, and what a real one's nvcc makes of the flags. None of it needs a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bninv.building import cuda_choice, cuda_toolkit, nvcc
from bninv.building.cuda_toolkit import Toolkit
from tests.support.fake_toolkit import fake_toolkit, read
from tests.support.workshop import ROOT


def test_candidates_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = fake_toolkit(tmp_path / "toolkit")
    wheels = fake_toolkit(tmp_path / "site" / "nvidia" / "cu13")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "site"), str(tmp_path / "nowhere")])
    environ = {"CUDA_HOME": "/cuda/a", "CUDA_PATH": "/cuda/b", "PATH": str(on_path / "bin")}
    found = cuda_toolkit.toolkit_candidates(environ)
    assert found[:3] == [Path("/cuda/a"), Path("/cuda/b"), on_path]
    assert found[-1] == wheels


def test_nvcc_on_path_is_a_link(tmp_path: Path) -> None:
    home = fake_toolkit(tmp_path / "toolkit")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    assert cuda_toolkit.system_candidates({"PATH": str(tmp_path / "bin")})[0] == home


def test_nvcc_on_path_is_a_script(tmp_path: Path) -> None:
    # Only nvcc itself knows where it is: asked for a dry run, it says so among its settings.
    home = fake_toolkit(tmp_path / "toolkit")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvcc"
    script.write_text(f"#!/bin/sh\necho '#$ _SPACE_= '; echo '#$ TOP={home}/bin/..' >&2\n")
    script.chmod(0o755)
    assert cuda_toolkit.system_candidates({"PATH": str(tmp_path / "bin")})[0] == home
    # One that says nothing of use is turned down like any folder without a toolkit.
    script.write_text("#!/bin/sh\nexit 1\n")
    found = cuda_toolkit.system_candidates({"PATH": str(tmp_path / "bin")})
    assert found[0] == tmp_path
    assert cuda_toolkit.read_toolkit(tmp_path) is None


def test_script_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_toolkit, "_SECONDS", 0.2)
    script = tmp_path / "nvcc"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    assert cuda_toolkit.system_candidates({"PATH": str(tmp_path)})[0] == tmp_path.parent


@pytest.mark.parametrize("missing", ["bin/nvcc", "include/cuda_runtime.h", "lib/libcudart.so.13"])
def test_toolkit_is_whole(tmp_path: Path, missing: str) -> None:
    home = fake_toolkit(tmp_path / "cuda", 13020)
    assert read(home) == Toolkit(home, (13, 2), home / "lib" / "libcudart.so.13")
    (home / missing).unlink()
    assert cuda_toolkit.read_toolkit(home) is None


def test_toolkit_of_conda(tmp_path: Path) -> None:
    home = fake_toolkit(tmp_path / "cuda")
    machine = {"aarch64": "sbsa"}.get(os.uname().machine, os.uname().machine)
    target = home / "targets" / f"{machine}-linux"
    target.mkdir(parents=True)
    (home / "include").rename(target / "include")
    assert read(home).version == (13, 0)


def test_wheels_in_two_places(tmp_path: Path) -> None:
    # torch's own runtime, and an nvcc that was added for one user or one environment.
    compiler = fake_toolkit(tmp_path / "user" / "nvidia" / "cu13", runtime=False)
    runtime = fake_toolkit(tmp_path / "site" / "nvidia" / "cu13", nvcc=False)
    folders = [str(tmp_path / name) for name in ("site", "user")]
    found = cuda_toolkit.find_toolkits(cuda_toolkit.wheel_candidates(folders))
    library = runtime / "lib" / "libcudart.so.13"
    include = (compiler / "include", runtime / "include")
    assert found == [Toolkit(compiler, (13, 0), library, include)]
    command = nvcc.nvcc_command(found[0], Path("a.cu"), Path("a.o"), ["9.0"])
    assert [c for c in command if c.startswith("-I")][1:] == [f"-I{folder}" for folder in include]


def test_wheels_are_torch_s_own_version() -> None:
    # Torch requires one exact cuda-toolkit; any other requirement could resolve to another CUDA.
    assert f'nvcc = ["{cuda_toolkit.WHEELS}"]\n' in (ROOT / "pyproject.toml").read_text()


# ---- A real toolkit, where there is one ----------------------------------------------------------


@pytest.fixture(scope="module")
def toolkit() -> Toolkit:
    found = cuda_toolkit.find_toolkits(cuda_toolkit.toolkit_candidates())
    if not found:
        pytest.skip("no CUDA toolkit here")
    return found[0]


def test_nvcc_keeps_the_arithmetic(toolkit: Toolkit, tmp_path: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", toolkit.nvcc_version())
    assert set(cuda_choice.ARCHITECTURES) <= set(toolkit.known_architectures())
    source = tmp_path / "probe.cu"
    source.write_text(
        "__global__ void probe(float* x, float y) {\n"
        "  x[0] = x[0] * y + x[1]; x[2] = sqrtf(x[2]) / y;\n"
        "}\n"
        "void run(float* x) { probe<<<1, 1>>>(x, 3.0f); }\n"
    )
    ptx = tmp_path / "probe.ptx"
    for kind, architectures in (("object", ["8.0", "9.0+PTX"]), ("ptx", ["9.0"])):
        command = nvcc.nvcc_command(toolkit, source, ptx, architectures, kind=kind)
        subprocess.run(command, check=True, env=nvcc.nvcc_environment(tmp_path))
    text = ptx.read_text()
    assert {"mul.rn.f32", "add.rn.f32", "sqrt.rn.f32", "div.rn.f32"} <= set(text.split())
    assert not re.search(r"\bfma\b|\.ftz|\.approx", text)
