"""The program of the stages "tensor-facts" and "tensor-speed": compiled ahead, or where it runs.

`make gpu-library` compiles it beside the operators, into build/gpu-library/tensor_facts, which is
taken along. It holds a key of its sources and the GPUs it was made for: where either does not fit,
it is compiled afresh, and where there is no nvcc, not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from bninv.building import cuda_choice, nvcc
from bninv.building.recipe import BuildError
from tests.gpu.record import ROOT

FOLDER = ROOT / "tests" / "gpu" / "tensor_facts"
PLACE = ROOT / "build" / "gpu-library" / "tensor_facts"
HEADERS = ("csrc/tensor_block.h", "csrc/numerics.h")
SERVED = (8, 0)  # bfloat16 and TF32 begin there


class NoProgramError(Exception):
    """There is none for this machine, and no compiler; says so in one line."""


def key() -> str:
    """Of the sources."""
    total = hashlib.sha256()
    for path in [*sorted(FOLDER.glob("*.cu*")), *(ROOT / name for name in HEADERS)]:
        total.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def compile_to(place: Path, architectures: Sequence[str]) -> None:
    """For compute capabilities such as "9.0"; the ones that lack what it asks for are left out.

    Raises:
        NoProgramError: there is no CUDA toolkit of torch's version, or it cannot do that.
    """
    names = [name.removesuffix("+PTX") for name in architectures]
    names = [name for name in names if cuda_choice.number(name) >= SERVED]
    if not names:
        raise NoProgramError("tensor cores of this kind begin with compute capability 8.0")
    wanted = {"BNINV_BUILD": "cuda", "TORCH_CUDA_ARCH_LIST": ";".join(names)}
    try:
        build = cuda_choice.choose_cuda(ROOT / "csrc", torch.version.cuda, {**os.environ, **wanted})
    except BuildError as error:
        raise NoProgramError(f"needs nvcc, or the program of `make gpu-library`: {error}") from None
    assert build is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_suffix(".new")
    codes = [name.replace(".", "") for name in names]
    codes = [f"{code}a" if code == "90" else code for code in codes]  # wgmma is 9.0a's alone
    command = [
        *(str(build.toolkit.nvcc), "-O2", "-std=c++17", "-cudart", "static"),
        *(f"-gencode=arch=compute_{code},code=sm_{code}" for code in codes),
        f'-DTENSOR_FACTS_KEY="{key()}"',
        f'-DTENSOR_FACTS_ARCHITECTURES="{" ".join(names)}"',
        *(f"-I{folder}" for folder in (ROOT / "csrc", *build.toolkit.include)),
        *("-o", str(aside), str(FOLDER / "tensor_facts.cu")),
    ]
    with tempfile.TemporaryDirectory(prefix="bninv-tensor-") as folder:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=nvcc.nvcc_environment(Path(folder)),
        )
    if done.returncode != 0:
        raise NoProgramError(f"nvcc: {(done.stderr or done.stdout).strip()[-500:]}")
    aside.replace(place)


def problem(place: Path, capability: str) -> str:
    """Why the program there is of no use for a GPU of that capability, or ""."""
    with contextlib.suppress(OSError):
        place.chmod(0o755)  # a copy may have lost it
    try:
        done = subprocess.run([str(place), "about"], capture_output=True, text=True, check=True)
        about = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return "there is none" if isinstance(error, FileNotFoundError) else repr(error)
    if about["key"] != key():
        return "it was compiled from other sources"
    made_for = about["architectures"].split()
    # Code of 9.0a runs on 9.0 alone, which its own rule says as well.
    if not cuda_choice.runs_on(capability, made_for):
        return f"it was compiled for compute capability {', '.join(made_for)}"
    return ""


def find(capability: str) -> Path:
    """The program for a GPU of that capability, such as "9.0"; compiled now if there is none.

    Raises:
        NoProgramError: there is none, and it cannot be compiled.
    """
    why = problem(PLACE, capability)
    if why:
        print(f"tensor_facts: compiling it: {why}", flush=True)
        try:
            compile_to(PLACE, [capability])
        except NoProgramError as error:
            stale = "" if why == "there is none" else f" ({PLACE.name}: {why})"
            raise NoProgramError(f"{error}{stale}") from None
        why = problem(PLACE, capability)
    if why:
        raise NoProgramError(why)
    return PLACE
