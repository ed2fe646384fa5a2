"""Compiles and links the whole CUDA extension, on a machine that need not have a GPU.

Once for all architectures (or those of --architectures) with the machine's own toolkit, if it has
one, and once for a single architecture with the toolkit's wheels, which are installed beside torch
if they are missing. Each library is then loaded, and an operator of its CPU half is run. Run by
`make cuda`.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import bninv
from bninv.building import cuda_choice, cuda_toolkit, extension, recipe


def say(text: str) -> None:
    print(f"bninv: {text}", flush=True)


def wheels() -> list[cuda_toolkit.Toolkit]:
    return cuda_toolkit.find_toolkits(cuda_toolkit.wheel_candidates())


def install_wheels() -> None:
    """The toolkit's wheels of the very CUDA version torch was built with, if they are missing."""
    assert torch.version.cuda is not None, "this torch is one without CUDA"
    major = int(torch.version.cuda.split(".")[0])
    if any(toolkit.major == major for toolkit in wheels()):
        return
    try:
        version = importlib.metadata.version("cuda-toolkit")  # what torch requires
    except importlib.metadata.PackageNotFoundError:
        version = f"{torch.version.cuda}.*"
    wanted = f"{cuda_toolkit.WHEELS}=={version}"
    say(f"downloading {wanted} into {sys.prefix} (about 110 MB, 270 MB on disk)")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if subprocess.run([*pip, wanted], check=False).returncode:
        sys.exit("bninv: pip could not install the CUDA toolkit's wheels; the lines above say why")


def _none(*_: object, **__: object) -> list[Path]:
    return []


def compile_here(origin: str, scalar: bool) -> None:
    """Compile afresh, load, run; with toolkits of that origin alone.

    Args:
        scalar: leave out the CPU kernels of the other levels, which are most of the C++ half.
    """
    start = time.monotonic()
    if scalar:
        levels = recipe.levels()
        recipe.levels = lambda machine=None: levels[:1]
    if origin == "wheels":
        cuda_toolkit.system_candidates = _none
    else:
        cuda_toolkit.wheel_candidates = _none
    cuda = cuda_choice.choose_cuda(recipe.source_dir(), torch.version.cuda)
    assert cuda is not None
    say(f"nvcc {cuda.toolkit.nvcc_version()} in {cuda.toolkit.home}, runtime {cuda.toolkit.cudart}")
    x = torch.randn(3, 5)
    # What an installation compiled is left aside.
    try:
        extension._library = extension.load_library(installed=Path(os.devnull))
    except recipe.BuildError as error:
        for log in Path(os.environ["BNINV_CACHE_DIR"]).glob("*.log"):
            print(log.read_text())
        sys.exit(f"bninv: {error}")
    if not torch.equal(bninv.functional.relu(x), x.clamp(min=0)):
        sys.exit("bninv: the library's relu is wrong")
    if not extension.has_cuda():
        sys.exit("bninv: the library registers no kernel for CUDA")
    size = extension._library.stat().st_size / 1e6
    say(f"{extension.cuda_build()}: {size:.1f} MB in {time.monotonic() - start:.0f} s, loaded")


def run(origin: str, architectures: str, scalar: bool = False) -> None:
    with tempfile.TemporaryDirectory(prefix="bninv-cuda-") as cache:
        environ = {
            **os.environ,
            "BNINV_BUILD": "cuda",
            "BNINV_CACHE_DIR": cache,
            "BNINV_WERROR": "1",
            "TORCH_CUDA_ARCH_LIST": architectures,
        }
        command = [sys.executable, __file__, "--only", origin, *(["--scalar"] if scalar else [])]
        if subprocess.run(command, check=False, env=environ).returncode:
            sys.exit(f"bninv: the CUDA extension did not compile with the toolkit ({origin})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=["system", "wheels"], help="this one, as the environment says"
    )
    parser.add_argument("--scalar", action="store_true", help="no CPU kernels of other levels")
    quick = "with the wheels alone, for 9.0, --scalar"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--install", action="store_true", help="the toolkit's wheels, and no more")
    parser.add_argument(
        "--architectures",
        default=f"{' '.join(cuda_choice.ARCHITECTURES)}+PTX",
        help="compute capabilities, as in TORCH_CUDA_ARCH_LIST",
    )
    arguments = parser.parse_args()
    if arguments.only:
        compile_here(arguments.only, arguments.scalar)
        return
    if not torch.version.cuda:
        sys.exit("bninv: this torch was built without CUDA, so CUDA kernels cannot be linked to it")
    if arguments.install:
        install_wheels()
        return
    if arguments.quick:
        install_wheels()
        run("wheels", "9.0", scalar=True)
        return
    assert torch.version.cuda is not None, "this torch is one without CUDA"
    major = int(torch.version.cuda.split(".")[0])
    every = arguments.architectures
    system = cuda_toolkit.find_toolkits(cuda_toolkit.system_candidates())
    fitting = [toolkit for toolkit in system if toolkit.major == major]
    if fitting:
        run("system", every)
    install_wheels()
    run("wheels", "9.0" if fitting else every)


if __name__ == "__main__":
    main()
