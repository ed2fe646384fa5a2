"""The CUDA half of a build: architectures, nvcc's command lines, what is built when.

None of this needs a GPU: builds use the nvcc of fake_toolkit.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bninv.building import cuda_choice, extension, nvcc, recipe
from bninv.building.cuda_choice import CudaBuild
from bninv.building.recipe import BuildError
from tests.support.fake_toolkit import fake_toolkit, read
from tests.support.workshop import ROOT, Workshop, open_workshop

KNOWN = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """With a CUDA source, and a toolkit in CUDA_HOME."""
    shop = open_workshop(tmp_path, monkeypatch)
    (shop.csrc / "cuda").mkdir()
    (shop.csrc / "cuda" / "probe.cu").write_text("namespace bninv { int on_gpu() { return 1; } }\n")
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda")))
    monkeypatch.setattr(cuda_choice, "present_architectures", lambda: ())
    return shop


# ---- BNINV_BUILD ---------------------------------------------------------------------------------


def choose(
    workshop: Workshop,
    wanted: str = "auto",
    *,
    torch_cuda: str | None = "13.0",
    gpus: tuple[str, ...] = (),
    named: str = "",
    ahead_of_time: bool = False,
    candidates: list[Path] | None = None,
) -> CudaBuild | None:
    if candidates is None:
        candidates = [workshop.folder / "cuda"]
    return cuda_choice.choose_cuda(
        workshop.csrc,
        torch_cuda,
        {"BNINV_BUILD": wanted, "TORCH_CUDA_ARCH_LIST": named},
        ahead_of_time=ahead_of_time,
        present=lambda: gpus,
        candidates=candidates,
    )


def test_build_value() -> None:
    with pytest.raises(BuildError, match="BNINV_BUILD is 'gpu'; it may be 'auto', 'cpu' or 'cuda'"):
        cuda_choice.requested_build({"BNINV_BUILD": "gpu"})
    assert cuda_choice.requested_build({}) == "auto"
    assert cuda_choice.requested_build({"BNINV_BUILD": ""}) == "auto"


def test_load_checks_build_value(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNINV_BUILD", "gpu")
    with pytest.raises(BuildError, match="BNINV_BUILD"):
        workshop.load()


def without_sources(workshop: Workshop) -> None:
    (workshop.csrc / "cuda" / "probe.cu").unlink()


def without_toolkit(workshop: Workshop) -> None:
    shutil.rmtree(workshop.folder / "cuda")


def of_cuda_12(workshop: Workshop) -> None:
    without_toolkit(workshop)
    fake_toolkit(workshop.folder / "cuda", 12080)


def with_broken_nvcc(workshop: Workshop) -> None:
    (workshop.folder / "cuda" / "bin" / "nvcc").write_text("#!/bin/sh\necho some trouble\n")


def unchanged(workshop: Workshop) -> None:
    pass


@pytest.mark.parametrize(
    ("arrange", "torch_cuda", "gpu", "message"),
    [
        (
            without_toolkit, "13.0", "9.0",
            r"no CUDA toolkit with bin/nvcc.*looked at: .*cuda.*pip install 'cuda-toolkit\[.*\]"
            r"==13.0.\*'` will do\) or name it in CUDA_HOME",
        ),
        (
            of_cuda_12, "13.0", "9.0",
            "built with CUDA 13.0, but the toolkits found are CUDA 12.8 in .*cuda, and the major "
            "versions must be equal: install CUDA 13.0's toolkit",
        ),
        (unchanged, "12.8", "9.0", "built with CUDA 12.8, but .* CUDA 13.0 in"),
        (with_broken_nvcc, "13.0", "9.0", "nvcc does not run or is no nvcc.*'some trouble'"),
        (unchanged, "13.0", "7.0", "cannot compile for compute capability 7.0 of a GPU here"),
    ],
)  # fmt: skip
def test_cuda_fails_loudly_and_auto_says_why(
    workshop: Workshop,
    capfd: pytest.CaptureFixture[str],
    arrange: Callable[[Workshop], None],
    torch_cuda: str,
    gpu: str,
    message: str,
) -> None:
    arrange(workshop)
    with pytest.raises(BuildError, match=f"BNINV_BUILD is 'cuda', but .*{message}") as caught:
        choose(workshop, "cuda", torch_cuda=torch_cuda, gpus=(gpu,))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert choose(workshop, torch_cuda=torch_cuda, gpus=(gpu,)) is None
    said = capfd.readouterr().err
    assert re.search(f"no CUDA kernels, although a GPU is present: .*{message}", said)
    assert said.count("\n") == 1
    # Without a GPU nothing is missed.
    assert choose(workshop, torch_cuda=torch_cuda) is None
    assert capfd.readouterr().err == ""


def test_auto_is_silent_where_cuda_is_out_of_the_question(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    assert choose(workshop, torch_cuda=None, gpus=("9.0",)) is None
    with pytest.raises(BuildError, match="torch was built without CUDA"):
        choose(workshop, "cuda", torch_cuda=None)
    without_sources(workshop)
    assert choose(workshop, gpus=("9.0",)) is None
    with pytest.raises(BuildError, match="no CUDA kernels yet"):
        choose(workshop, "cuda")
    assert capfd.readouterr().err == ""


def test_what_auto_says_can_be_taken_elsewhere(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    without_toolkit(workshop)
    monkeypatch.setattr(cuda_choice, "present_architectures", lambda: ("9.0",))
    monkeypatch.setattr(cuda_choice, "toolkit_candidates", lambda environ: [])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    said: list[str] = []
    path = extension.load_library(workshop.csrc, workshop.folder / "installed", said.append)
    (line,) = said
    assert line.startswith("no CUDA kernels, although a GPU is present: no CUDA toolkit")
    assert "no CUDA kernels" not in capfd.readouterr().err
    assert workshop.load() == path
    assert capfd.readouterr().err == f"bninv: {line} (BNINV_BUILD=cpu silences this)\n"


def test_no_gpu_no_search(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(environ: object) -> list[Path]:
        raise AssertionError("a CPU-only build looked for a toolkit")

    monkeypatch.setattr(cuda_choice, "toolkit_candidates", search)
    assert cuda_choice.choose_cuda(workshop.csrc, "13.0", {}) is None
    environ = {"BNINV_BUILD": "cpu", "TORCH_CUDA_ARCH_LIST": "9.0"}
    assert cuda_choice.choose_cuda(workshop.csrc, "13.0", environ) is None


@pytest.mark.parametrize(
    ("wanted", "gpus", "named", "ahead_of_time", "expected"),
    [
        ("auto", (), "", False, None),
        ("auto", (), "", True, None),
        ("auto", ("8.6", "9.0"), "", False, "8.6,9.0"),
        ("auto", ("8.6", "9.0"), "", True, "8.6,9.0+PTX"),
        ("auto", (), "8.0;9.0+PTX", False, "8.0,9.0+PTX"),
        ("auto", ("8.6",), "9.0", True, "9.0"),
        ("cuda", (), "", False, "7.5,8.0,8.6,8.9,9.0,10.0,12.0+PTX"),
        ("cuda", (), "", True, "7.5,8.0,8.6,8.9,9.0,10.0,12.0+PTX"),
        # A GPU newer than the toolkit runs what is compiled for an older one of its major version.
        ("cuda", ("12.1", "10.3", "8.7"), "", False, "8.6,10.0,12.0"),
        ("cpu", ("9.0",), "9.0", True, None),
    ],
)
def test_architectures(
    workshop: Workshop,
    wanted: str,
    gpus: tuple[str, ...],
    named: str,
    ahead_of_time: bool,
    expected: str | None,
) -> None:
    build = choose(workshop, wanted, gpus=gpus, named=named, ahead_of_time=ahead_of_time)
    assert (build and build.description) == (expected and f"13;{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.0", ("9.0",)),
        ("12.0 8.0;9.0+PTX", ("8.0", "9.0+PTX", "12.0")),
        (" ;8.6;; 8.6+ptx ", ("8.6+PTX",)),
        ("10.0;9.0", ("9.0", "10.0")),
        ("Hopper", "holds 'Hopper': name compute capabilities in numbers"),
        ("8.0;9.0a", "holds '9.0a': .* without letters"),
        ("90", "holds '90'"),
        ("7.0", "holds '7.0', which the toolkit in .* cannot compile for; it knows 7.5, 8.0"),
    ],
)
def test_architectures_named(tmp_path: Path, text: str, expected: tuple[str, ...] | str) -> None:
    toolkit = read(fake_toolkit(tmp_path / "cuda"))
    if isinstance(expected, tuple):
        assert cuda_choice.parse_architectures(text, KNOWN, toolkit) == expected
    else:
        with pytest.raises(BuildError, match=f"TORCH_CUDA_ARCH_LIST {expected}"):
            cuda_choice.parse_architectures(text, KNOWN, toolkit)


def test_present_architectures(tmp_path: Path) -> None:
    """Against a driver of our own: one process is asked, and it is not this one."""
    (tmp_path / "driver.c").write_text(
        "static const int capability[3][2] = {{9, 0}, {8, 6}, {9, 0}};\n"
        "int cuInit(unsigned flags) { return (int)flags; }\n"
        "int cuDeviceGetCount(int* count) { *count = 3; return 0; }\n"
        "int cuDeviceGet(int* device, int i) { *device = i; return 0; }\n"
        "int cuDeviceGetAttribute(int* value, int which, int device) {\n"
        "  *value = capability[device][which - 75]; return 0; }\n"
    )
    compiler = [*os.environ.get("CXX", "c++").split(), "-x", "c", "-shared", "-fPIC"]
    library = str(tmp_path / "libcuda.so.1")
    subprocess.run([*compiler, str(tmp_path / "driver.c"), "-o", library], check=True)
    script = "from bninv.building.cuda_choice import present_architectures as p; print(*p())"

    def ask(**more: str) -> str:
        environ = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        environ.update(LD_LIBRARY_PATH=str(tmp_path), **more)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, check=True, cwd=ROOT, env=environ, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    assert ask() == "8.6 9.0"
    assert ask(CUDA_VISIBLE_DEVICES="") == ""


# ---- Command lines -------------------------------------------------------------------------------


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = read(fake_toolkit(tmp_path / "cuda"))
    source, output = Path("a.cu"), Path("a.o")
    command = nvcc.nvcc_command(
        toolkit, source, output, ["8.0", "12.0+PTX"], defines=["X=1"], threads=2, environ={}
    )
    assert command[0] == str(toolkit.nvcc)
    assert [c for c in command if "arch" in c] == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]
    assert {"-c", "-DX=1", "--threads=2", "--fmad=false", "-ftz=false"} <= set(command)
    assert not any("fast" in c or "native" in c or "rdc" in c or "ccbin" in c for c in command)
    for kind, expected in (("ptx", "-arch=compute_90"), ("cubin", "-arch=sm_90")):
        command = nvcc.nvcc_command(toolkit, source, output, ["9.0"], kind=kind)
        assert {f"-{kind}", expected} <= set(command)
        assert "-c" not in command
        with pytest.raises(ValueError, match="2 architectures"):
            nvcc.nvcc_command(toolkit, source, output, ["8.0", "9.0"], kind=kind)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CXX": "/bin/sh"}, ["-ccbin", "/bin/sh"]),
        ({"CXX": "ccache g++"}, []),
        ({"CXX": "/bin/sh", "NVCC_CCBIN": "g++-13"}, []),
    ],
)
def test_host_compiler(tmp_path: Path, environ: dict[str, str], expected: list[str]) -> None:
    toolkit = read(fake_toolkit(tmp_path / "cuda"))
    command = nvcc.nvcc_command(toolkit, Path("a.cu"), Path("a.o"), ["9.0"], environ=environ)
    at = command.index("-ccbin") if "-ccbin" in command else len(command)
    assert command[at : at + 2] == expected


# ---- Builds --------------------------------------------------------------------------------------

links_to_torch = pytest.mark.skipif(
    (torch.version.cuda or "").split(".")[0] != "13", reason="this torch is not built with CUDA 13"
)


def commands(workshop: Workshop) -> list[str]:
    record = workshop.folder / "cuda" / "commands"
    return record.read_text().splitlines() if record.exists() else []


@links_to_torch
def test_build_with_cuda(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (workshop.csrc / "cuda" / "other.cu").write_text("namespace bninv { int b() { return 2; } }\n")
    (workshop.csrc / "ops" / "probe.cpp").write_text(
        "#if BNINV_HAVE_CUDA\n"
        "namespace bninv { int on_gpu(); }\n"
        'extern "C" __attribute__((visibility("default"))) int bninv_probe() {\n'
        "  return bninv::on_gpu(); }\n"
        "#endif\n"
    )
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0 9.0+PTX")
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "--use_fast_math")
    path = workshop.load()
    assert "for compute capability 8.0, 9.0+PTX, once" in capfd.readouterr().err
    assert sorted(re.findall(r"(\w+)\.cu ", "\n".join(commands(workshop)))) == ["other", "probe"]
    assert "fast_math" not in (workshop.folder / "cuda" / "environment").read_text()
    assert recipe.embedded_cuda(path) == "13;8.0,9.0+PTX"
    assert b"bninv_probe\0" in path.read_bytes()
    assert workshop.left_over() == [path.parent.name]
    assert [p.name for p in path.parent.iterdir()] == ["_C.so"]

    # Again: from the cache, and with what the same environment asks for.
    assert workshop.load() == path
    assert len(commands(workshop)) == 2
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")
    other = workshop.load()
    assert recipe.embedded_cuda(other) == "13;8.0"
    (workshop.folder / "cuda" / "version").write_text("13.1.5")
    assert workshop.load() not in (path, other)
    monkeypatch.setenv("BNINV_BUILD", "cpu")
    count = len(commands(workshop))
    assert recipe.embedded_cuda(workshop.load()) == ""
    assert len(commands(workshop)) == count


@links_to_torch
def test_no_compiler_takes_the_library_with_cuda(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = workshop.load()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    with_cuda = workshop.load()
    monkeypatch.setenv("PATH", str(workshop.folder / "empty"))
    monkeypatch.setenv("CXX", "nowhere")
    assert workshop.load() == with_cuda
    monkeypatch.setenv("BNINV_BUILD", "cpu")
    assert workshop.load() == without


@pytest.mark.parametrize(
    ("complaint", "expected"),
    [
        ("probe.cu(1): error: what the kernel's author sees", "what the kernel's author sees"),
        (
            "ptxas a.ptx, line 9; fatal   : Unsupported .version 9.5; current version is '9.0'",
            r"Unsupported .version 9.5(.|\n)*different versions: install matching ones",
        ),
    ],
)
def test_nvcc_error(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, complaint: str, expected: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    (workshop.folder / "cuda" / "complaint").write_text(f"{complaint}\n")
    with pytest.raises(BuildError, match=expected) as caught:
        workshop.load()
    log = re.search(r"the whole log is (\S+\.log)", str(caught.value))
    assert log is not None
    # The command is there to be tried by hand.
    assert f"{workshop.folder}/cuda/bin/nvcc -std=c++20" in Path(log.group(1)).read_text()
    assert workshop.left_over() == []


def test_newer_toolkit_than_torch_s_runtime(tmp_path: Path) -> None:
    # Torch's library is linked to, whatever is in the toolkit, so that what it lacks shows here.
    build = CudaBuild(read(fake_toolkit(tmp_path / "cuda")), ("9.0",))
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r--p 0 fe:00 1  /torch/my libs/libcudart.so.13\n")
    assert nvcc._loaded_cudart(13, maps) == Path("/torch/my libs/libcudart.so.13")
    assert nvcc._loaded_cudart(12, maps) is None
    flags = nvcc.link_flags(build, Path("/torch/lib"))
    assert "-Wl,-z,defs" in flags
    own = str(tmp_path / "cuda" / "lib" / "libcudart.so.13")
    assert (own in flags) == (nvcc._loaded_cudart(13) is None)


# ---- The library compiled at installation --------------------------------------------------------


def test_misfit() -> None:
    misfit = cuda_choice.misfit
    assert misfit("", "13.0", {}) == misfit("", None, {}) == misfit("13;9.0", "13.2", {}) == ""
    for built, gpus, fits in (
        ("13;9.0", ("9.0",), True),
        ("13;9.0", (), True),  # no GPU, nothing that could not run
        ("13;8.0", ("9.0",), False),
        ("13;8.0+PTX", ("9.0",), True),
        ("13;7.5,8.0", ("8.6",), True),
        ("13;8.6", ("8.0",), False),
        ("13;9.0+PTX", ("8.9",), False),
        ("13;8.0,9.0", ("7.5", "9.0"), True),
        ("13;12.0", ("12.1",), True),
    ):
        found = misfit(built, "13.0", {}, lambda gpus=gpus: gpus)
        assert (found == "") == fits
        assert fits or (built[3:] in found and f"a GPU here has {gpus[0]}" in found)
    assert misfit("13;9.0", "13.0", {"BNINV_BUILD": "cuda"}) == ""
    assert "CPU only, and BNINV_BUILD is 'cuda'" in misfit("", "13.0", {"BNINV_BUILD": "cuda"})
    assert "for CUDA 13, but this torch was built without" in misfit("13;9.0", None, {})
    assert "for CUDA 13, but this torch was built with CUDA 12.8" in misfit("13;9.0", "12.8", {})


@links_to_torch
def test_installed_library_and_cuda(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = workshop.folder / "installed"
    installed.mkdir()
    shutil.copy(workshop.load(), installed / "_C.abi3.so")
    # A GPU that came later does not overrule what was installed; the user's word does.
    monkeypatch.setattr(cuda_choice, "present_architectures", lambda: ("9.0",))
    assert workshop.load() == installed / "_C.abi3.so"
    monkeypatch.setenv("BNINV_BUILD", "cuda")
    with pytest.warns(UserWarning, match="not using .*compiled for the CPU only"):
        path = workshop.load()
    assert recipe.embedded_cuda(path) == "13;9.0"

    # One with CUDA needs no toolkit any more, and is of no use to another torch.
    (installed / "_C.abi3.so").unlink()  # it is mapped: writing over it would crash this process
    shutil.copy(path, installed / "_C.abi3.so")
    shutil.rmtree(workshop.folder / "cuda")
    assert workshop.load() == installed / "_C.abi3.so"
    monkeypatch.setenv("BNINV_BUILD", "auto")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(cuda_choice, "present_architectures", lambda: ())
    with pytest.warns(UserWarning, match="compiled for CUDA 13, but this torch was built with"):
        assert recipe.embedded_cuda(workshop.load()) == ""


def test_setup_imports_no_torch() -> None:
    # It loads the build modules without the package, for torch may be missing.
    script = (
        "import ast, pathlib, sys, importlib, types\n"
        "tree = ast.parse(pathlib.Path('setup.py').read_text())\n"
        "wanted = 'load_build_descriptions'\n"
        "tree.body = [n for n in tree.body if getattr(n, 'name', '') == wanted]\n"
        "ROOT = pathlib.Path.cwd()\n"
        "exec(compile(tree, 'setup.py', 'exec'))\n"
        "build, cuda_build, nvcc = load_build_descriptions()\n"
        "assert cuda_build.BuildError is build.BuildError\n"
        "sys.exit('torch' in sys.modules or 'bninv' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
