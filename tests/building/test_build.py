"""Building and finding the C++ operators: nothing hangs, nothing is poisoned, refusals are clear.

Most tests build a library of no operators (support/workshop.py). The CUDA half: test_cuda_build.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bninv.building import cache, recipe
from bninv.building.recipe import BuildError
from tests.support.workshop import REAL_COMPILER, ROOT, Workshop, open_workshop


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return open_workshop(tmp_path, monkeypatch)


# ---- Import and cache ----------------------------------------------------------------------------


def test_import_compiles_nothing(tmp_path: Path) -> None:
    environ = {**os.environ, "BNINV_CACHE_DIR": str(tmp_path / "cache"), "CXX": "/nonexistent"}
    script = "import bninv, sys; sys.exit('torch.utils.cpp_extension' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "cache").exists()


def test_second_load_compiles_nothing(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    path = workshop.load()
    assert workshop.compiled() == workshop.units()
    assert capfd.readouterr().err.count("\n") == 1  # one line says that it compiles, and where
    assert workshop.load() == path
    assert workshop.compiled() == workshop.units()
    assert capfd.readouterr().err == ""
    assert workshop.left_over() == [path.parent.name]
    assert [p.name for p in path.parent.iterdir()] == ["_C.so"]
    assert workshop.cache.stat().st_mode & 0o777 == 0o700


def test_key_depends_on_everything(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {recipe.source_key(workshop.csrc)}
    (workshop.csrc / "numerics.h").write_text("#pragma once\n")
    keys.add(recipe.source_key(workshop.csrc))
    (workshop.csrc / "cpu" / "probe.cpp").rename(workshop.csrc / "cpu" / "other.cpp")
    keys.add(recipe.source_key(workshop.csrc))
    monkeypatch.setattr(recipe, "link_flags", lambda: ["-O1"])
    keys.add(recipe.source_key(workshop.csrc))
    monkeypatch.setattr(recipe, "levels", lambda *_: (recipe.Level("scalar", 1, None),))
    keys.add(recipe.source_key(workshop.csrc))
    keys.add(recipe.toolchain_key("g++ 12", "2.11.0"))
    keys.add(recipe.toolchain_key("g++ 13", "2.11.0"))
    keys.add(recipe.toolchain_key("g++ 12", "2.10.0"))
    keys.add(recipe.toolchain_key("g++ 12", "2.11.0", "nvcc 13.0.88, 9.0"))
    assert len(keys) == 9


def test_wrappers_hold_no_absolute_path(workshop: Workshop) -> None:
    for name, text in recipe.wrappers(workshop.csrc).items():
        assert str(workshop.folder) not in text, name


def test_damaged_library_is_built_again(workshop: Workshop) -> None:
    # As a crash of the machine could leave it. Never loaded here before, so not mapped.
    source = recipe.source_key(workshop.csrc)
    key = f"{source}-{recipe.toolchain_key(recipe.compiler_identity(), _torch_version())}"
    (workshop.cache / key).mkdir(parents=True)
    workshop.cache.chmod(0o700)
    (workshop.cache / key / "_C.so").write_bytes(b"\x7fELF")
    assert recipe.embedded_key(workshop.load()) == source


def test_a_library_that_a_process_has_no_memory_for_is_kept(workshop: Workshop) -> None:
    """Others use it, and would all have to compile it again."""
    path = workshop.load()
    compiled = workshop.compiled()
    script = (
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from bninv.building import extension\n"
        "load = torch.ops.load_library\n"
        "def limited(path):\n"
        "    resource.setrlimit(resource.RLIMIT_DATA, (1 << 20, resource.RLIM_INFINITY))\n"
        "    load(path)\n"
        "torch.ops.load_library = limited\n"
        f"extension.load_library(Path({str(workshop.csrc)!r}), Path('nowhere'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0 and "cannot load the compiled operators" in ended.stderr
    assert path.is_file() and workshop.compiled() == compiled


def _torch_version() -> str:
    import torch

    return torch.__version__


# ---- Several processes ---------------------------------------------------------------------------


def test_two_processes_build_once(workshop: Workshop) -> None:
    (workshop.folder / "slow").touch()
    processes = [workshop.start(), workshop.start()]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert workshop.compiled() == workshop.units()
    assert len(workshop.left_over()) == 1


def test_killed_build_blocks_nobody(workshop: Workshop) -> None:
    (workshop.folder / "hang").touch()
    process = workshop.start()
    deadline = time.monotonic() + 120
    while workshop.compiled() == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert any(".tmp-" in name for name in workshop.left_over())

    (workshop.folder / "hang").unlink()
    path = workshop.load()
    assert workshop.left_over() == [path.parent.name]


# ---- What is missing -----------------------------------------------------------------------------


def test_no_compiler(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = workshop.load()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert workshop.load() == path  # built earlier: a compiler is not needed to run it
    shutil.rmtree(workshop.cache)
    with pytest.raises(BuildError, match=r"no C\+\+ compiler: 'c\+\+' is not on PATH.*g\+\+.*CXX"):
        workshop.load()


def test_compiler_that_does_not_run(workshop: Workshop) -> None:
    workshop.compiler.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildError, match="does not run"):
        workshop.load()


def test_no_ninja(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BuildError, match="pip install ninja"):
        workshop.load()
    assert os.environ["PATH"] == str(tmp_path / "empty")
    assert workshop.left_over() == []


def test_compile_error(workshop: Workshop) -> None:
    (workshop.csrc / "cpu" / "probe.cpp").write_text("#error what the kernel's author sees\n")
    with pytest.raises(BuildError, match="what the kernel's author sees") as caught:
        workshop.load()
    log = re.search(r"the whole log is (\S+\.log)", str(caught.value))
    assert log is not None
    assert "what the kernel's author sees" in Path(log.group(1)).read_text()
    assert len(str(caught.value).splitlines()) < 12
    assert workshop.left_over() == []


def test_library_that_does_not_load(workshop: Workshop) -> None:
    (workshop.csrc / "ops" / "probe.cpp").write_text("void nowhere(); int x = (nowhere(), 1);\n")
    with pytest.raises(BuildError, match="nowhere"):
        workshop.load()
    assert workshop.left_over() == []


def test_disk_full(workshop: Workshop) -> None:
    (workshop.folder / "complaint").write_text("error: No space left on device\n")
    with pytest.raises(BuildError, match="no space left.*BNINV_CACHE_DIR"):
        workshop.load()


# ---- The cache folder ----------------------------------------------------------------------------


def test_cache_dir_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("BNINV_CACHE_DIR", str(tmp_path / "own"))
    assert cache.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("BNINV_CACHE_DIR")
    assert cache.cache_dir() == tmp_path / "xdg" / "bninv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == tmp_path / "home" / ".cache" / "bninv"


def test_cache_dir_others_can_write(workshop: Workshop) -> None:
    workshop.cache.mkdir()
    workshop.cache.chmod(0o777)
    with pytest.raises(BuildError, match="can be written by other users.*chmod"):
        workshop.load()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_cache_dir_of_another_user(workshop: Workshop) -> None:
    workshop.cache.mkdir(mode=0o700)
    os.chown(workshop.cache, 12345, 12345)
    with pytest.raises(BuildError, match="belongs to another user.*BNINV_CACHE_DIR"):
        workshop.load()


def test_cache_dir_cannot_be_made(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNINV_CACHE_DIR", str(workshop.compiler / "below-a-file"))
    with pytest.raises(BuildError, match="cannot write.*BNINV_CACHE_DIR"):
        workshop.load()


# ---- The library compiled at installation --------------------------------------------------------


def test_installed_library(workshop: Workshop) -> None:
    installed = workshop.folder / "installed"
    installed.mkdir()
    shutil.copy(workshop.load(), installed / "_C.abi3.so")
    shutil.rmtree(workshop.cache)
    assert workshop.load() == installed / "_C.abi3.so"
    assert not workshop.cache.exists()

    # Sources changed since (a checkout installed in editable mode): never the old library.
    (workshop.csrc / "numerics.h").write_text("#pragma once\n")
    with pytest.warns(UserWarning, match="compiled from other sources"):
        assert workshop.load().is_relative_to(workshop.cache)


# ---- The real sources ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["scalar", "sse9"])
def test_cpu_capability(level: str) -> None:
    script = (
        "import torch; from bninv.building import extension\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        extension.load()\n"
        "        print(torch.ops.bninv._cpu_capability())\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    environ = {**os.environ, "BNINV_CPU_CAPABILITY": level}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == second
    if level == "scalar":
        assert first == "scalar"
    else:
        assert re.search("BNINV_CPU_CAPABILITY is 'sse9'.*may be one of: scalar", first)


def test_every_architecture_has_its_levels() -> None:
    names = {
        machine: [level.name for level in recipe.levels(machine)]
        for machine in ("x86_64", "AMD64", "aarch64", "arm64", "riscv64")
    }
    assert names["x86_64"] == names["AMD64"] == ["scalar", "avx2", "avx512"]
    assert names["aarch64"] == names["arm64"] == ["scalar", "neon"]
    assert names["riscv64"] == ["scalar"]
    units = recipe.wrappers(recipe.source_dir(), operators=False, machine="aarch64")
    assert {name.rsplit("_", 1)[1] for name in units} == {"scalar.cpp", "neon.cpp"}
    for machine in names:
        flags = recipe.compile_flags({}, machine)
        assert "-ffp-contract=off" in flags  # GCC contracts unasked where fma is in the baseline
        assert ("-DBNINV_HAVE_NEON=1" in flags) == ("neon" in names[machine])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_no_function_is_shared_between_levels(tmp_path: Path) -> None:
    """A function the linker may merge must carry its level in its name.

    Otherwise a copy compiled for a high level could serve the whole library, and a lesser machine
    would meet an illegal instruction. -O1 inlines little, so that such functions show.
    """
    csrc = recipe.source_dir()
    for unit in recipe.write_wrappers(tmp_path, csrc, operators=False):
        level = unit.stem.rsplit("_", 1)[1]
        if level == "scalar":
            continue
        flags = [*recipe.compile_flags({}), "-O1", f"-I{csrc}"]
        subprocess.run([REAL_COMPILER, *flags, "-c", unit, "-o", tmp_path / "unit.o"], check=True)
        symbols = subprocess.run(
            ["nm", "-C", tmp_path / "unit.o"], check=True, capture_output=True, text=True
        ).stdout
        shared = re.findall(r" [WVu] (.*)", symbols)
        assert [s for s in shared if f"bninv::{level}::" not in s and "DW.ref" not in s] == []


@pytest.mark.parametrize("command", ["bdist_wheel", "dist_info", "editable_wheel"])
def test_setuptools_that_makes_no_wheels(command: str) -> None:
    """As in a fresh environment of Python 3.11: pip --no-build-isolation takes what is there."""
    code = (
        "import runpy, sys, setuptools\n"
        "sys.modules['setuptools.command.bdist_wheel'] = sys.modules['wheel.bdist_wheel'] = None\n"
        f"sys.argv = ['setup.py', {command!r}]\n"
        "runpy.run_path('setup.py')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("bninv: setuptools ")
    assert "pip install torch 'setuptools>=70.1' ninja" in line
