"""Finds a CUDA toolkit that can compile and link, wherever it was installed.

Torch's build helpers take the toolkit's folder from where nvcc lies on PATH. That is wrong where
this nvcc is a script around the real one, and blind to the toolkit's wheels. Here a folder counts
when it has a compiler, headers and the runtime library, and the wheels are put together from all
the places they were installed to.

Imports neither torch nor anything that does, so that `setup.py` can use it.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .recipe import BuildError

# What to install where there is no toolkit; also the extra `nvcc` in pyproject.toml. Torch requires
# one exact cuda-toolkit, so these resolve to wheels of torch's own CUDA version. The wheels
# themselves (nvidia-cuda-nvcc and so on) require each other in any version, and mixed versions do
# not work together: nvcc 13.0 cannot read what nvvm 13.5 writes.
WHEELS = "cuda-toolkit[cccl,crt,cudart,nvcc,nvvm]"

_SECONDS = 30  # for questions to nvcc, which answers at once; a wrapper script may do anything


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile and link."""

    home: Path  # nvcc is home/bin/nvcc
    version: tuple[int, int]  # of the runtime's headers
    cudart: Path  # the runtime library
    include: tuple[Path, ...] = ()  # folders of headers that nvcc does not find by itself

    @property
    def nvcc(self) -> Path:
        return self.home / "bin" / "nvcc"

    @property
    def major(self) -> int:
        return self.version[0]

    def nvcc_version(self) -> str:
        """Such as "13.0.88"."""
        text = _ask(self.nvcc, "--version")
        match = re.search(r"release [\d.]+, V([\d.]+)", text)
        if match is None:
            raise BuildError(f"{self.nvcc} does not run or is no nvcc; it says: {text.strip()!r}")
        return match.group(1)

    def known_architectures(self) -> tuple[str, ...]:
        """The compute capabilities nvcc compiles for, oldest first: ("7.5", ..., "12.1")."""
        found = re.findall(r"compute_(\d+)(\d)\s*$", _ask(self.nvcc, "--list-gpu-arch"), re.M)
        return tuple(f"{a}.{b}" for a, b in sorted((int(a), int(b)) for a, b in found))


def _ask(nvcc: Path, *arguments: str) -> str:
    """What nvcc prints, or why it does not run."""
    try:
        done = subprocess.run(
            [nvcc, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout


# ---- Where to look -------------------------------------------------------------------------------


def toolkit_candidates(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders that may hold a CUDA toolkit, the most explicit first."""
    return list(dict.fromkeys([*system_candidates(environ), *wheel_candidates()]))


def system_candidates(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Named by the environment, on PATH, or in the usual place."""
    found = [Path(environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    nvcc = shutil.which("nvcc", path=environ.get("PATH", os.defpath))
    if nvcc:
        home = Path(nvcc).resolve().parent.parent  # often a link
        if _runtime_in(home) is None:
            home = _home_behind(Path(nvcc)) or home
        found.append(home)
    found += [Path(name) for name in sorted(glob.glob("/usr/local/cuda*"))]  # mostly links
    once: dict[Path, Path] = {}
    for home in found:
        once.setdefault(home.resolve(), home)
    return list(once.values())


def wheel_candidates(folders: Sequence[str] | None = None) -> list[Path]:
    """Where the toolkit's wheels put themselves, below any folder Python imports from.

    CUDA 12's wheels hold no nvcc, so their layout is not looked at.
    """
    entries = sys.path if folders is None else folders
    return [
        home for entry in entries for home in sorted(Path(entry or ".").glob("nvidia/cu[0-9]*"))
    ]


def _home_behind(wrapper: Path) -> Path | None:
    """The toolkit that an nvcc on PATH stands for: its own word for it, from a dry run."""
    text = _ask(wrapper, "--dryrun", "-c", "-x", "cu", os.devnull, "-o", os.devnull)
    match = re.search(r"^#\$ TOP=(.+)$", text, re.MULTILINE)
    return Path(match.group(1).strip()).resolve() if match else None


# ---- What is there -------------------------------------------------------------------------------


def read_toolkit(home: Path, others: Sequence[Path] = ()) -> Toolkit | None:
    """The toolkit in `home`, if it has a compiler, headers and the runtime library.

    Wheels may be spread over several site-packages (torch's runtime in one, an nvcc that the user
    added in another): headers and runtime missing from `home` are then taken from the folders in
    `others` that have its name.
    """
    if not (home / "bin" / "nvcc").is_file():
        return None
    include: tuple[Path, ...] = ()
    runtime = _runtime_in(home)
    if runtime is None:
        for other in others:
            if other.name == home.name and (runtime := _runtime_in(other)):
                # After home's own: nvcc's half of the headers (crt/) has to be nvcc's.
                include = (home / "include", other / "include")
                break
    return Toolkit(home, *runtime, include) if runtime else None


def find_toolkits(candidates: Sequence[Path]) -> list[Toolkit]:
    """The toolkits among the candidates, in their order."""
    return [toolkit for home in candidates if (toolkit := read_toolkit(home, candidates))]


def _runtime_in(home: Path) -> tuple[tuple[int, int], Path] | None:
    """The version of the runtime's headers in `home` and the library, if both are there."""
    target = {"aarch64": "sbsa-linux"}.get(platform.machine(), f"{platform.machine()}-linux")
    for include in (home / "include", home / "targets" / target / "include"):
        header = include / "cuda_runtime_api.h"
        if header.is_file() and (include / "cuda_runtime.h").is_file():
            break
    else:
        return None
    match = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", header.read_text(errors="replace"))
    if match is None:
        return None
    version = (int(match.group(1)) // 1000, int(match.group(1)) % 1000 // 10)
    # The wheels leave out the link named libcudart.so, so the file is named by its version.
    for folder in ("lib64", "lib", f"targets/{target}/lib", f"lib/{platform.machine()}-linux-gnu"):
        for library in sorted(home.glob(f"{folder}/libcudart.so.{version[0]}*")):
            return version, library
    return None
