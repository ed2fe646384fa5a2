"""The CUDA half of a build: whether there is one, with which toolkit, and for which GPUs.

How it is then compiled is in nvcc.py. Imports neither torch nor anything that does, so that
`setup.py` can use it.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cuda_toolkit import WHEELS, Toolkit, find_toolkits, toolkit_candidates
from .recipe import BuildError

# What is compiled where no architecture is named and there is no GPU to ask: every one since
# Turing, without the variants (9.0a and the like) that run on one chip only.
ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


@dataclass(frozen=True)
class CudaBuild:
    """What CUDA kernels are compiled with, and for which capabilities, such as "9.0+PTX"."""

    toolkit: Toolkit
    architectures: tuple[str, ...]

    @property
    def description(self) -> str:
        """What the library says of itself: "13;8.0,9.0+PTX"."""
        return f"{self.toolkit.major};{','.join(self.architectures)}"

    @property
    def identity(self) -> str:
        """What another result depends on, for the cache's key."""
        minor = ".".join(map(str, self.toolkit.version))
        return f"nvcc {self.toolkit.nvcc_version()}, runtime {minor}, {self.description}"


# ---- Whether: BNINV_BUILD ------------------------------------------------------------------------


def requested_build(environ: Mapping[str, str] = os.environ) -> str:
    """The value of BNINV_BUILD: "auto" (the default), "cpu" or "cuda"."""
    value = environ.get("BNINV_BUILD") or "auto"
    if value not in ("auto", "cpu", "cuda"):
        raise BuildError(f"BNINV_BUILD is {value!r}; it may be 'auto', 'cpu' or 'cuda'")
    return value


def choose_cuda(
    csrc: Path,
    torch_cuda: str | None,
    environ: Mapping[str, str] = os.environ,
    *,
    ahead_of_time: bool = False,
    present: Callable[[], Sequence[str]] | None = None,
    candidates: Sequence[Path] | None = None,
    tell: Callable[[str], None] | None = None,
) -> CudaBuild | None:
    """The toolkit and the architectures to build CUDA kernels with, or None for a CPU-only build.

    `auto` builds CUDA where a GPU is present or architectures are named (TORCH_CUDA_ARCH_LIST); if
    something is missing, it says so in one line and builds for the CPU alone. `cuda` never falls
    back.

    Args:
        torch_cuda: torch.version.cuda, the CUDA version torch was built with, or None.
        ahead_of_time: what is built may meet GPUs newer than the present ones, so PTX goes in.
        present: in place of `present_architectures`.
        candidates: in place of `toolkit_candidates()`.
        tell: called with that line, which is otherwise printed on standard error, with the hint
            that `cpu` silences it.

    Raises:
        BuildError: BNINV_BUILD is none of the three, or is `cuda` and that cannot be done.
    """
    wanted = requested_build(environ)
    if wanted == "cpu":
        return None
    has_sources = any(csrc.glob("cuda/*.cu"))
    named = environ.get("TORCH_CUDA_ARCH_LIST", "").strip()
    gpus: Sequence[str] = ()
    # In this order, so that nobody without use for CUDA waits for any of it.
    if wanted == "auto" and not (has_sources and torch_cuda):
        return None
    if not named:
        gpus = (present or present_architectures)()
    if wanted == "auto" and not (named or gpus):
        return None
    try:
        if not has_sources:
            raise BuildError("this version of bninv has no CUDA kernels yet: use 'auto' or 'cpu'")
        toolkit = _matching_toolkit(
            torch_cuda, toolkit_candidates(environ) if candidates is None else candidates
        )
        known = toolkit.known_architectures()
        if not known:
            # The version is read first: an nvcc that does not run is reported as such.
            raise BuildError(f"nvcc {toolkit.nvcc_version()} in {toolkit.home} lists no GPUs")
        if named:
            chosen = parse_architectures(named, known, toolkit)
        elif gpus:
            chosen = _serving(gpus, known, toolkit)
        else:
            chosen = tuple(name for name in ARCHITECTURES if name in known)
        if not named and (ahead_of_time or not gpus):
            chosen = (*chosen[:-1], f"{chosen[-1]}+PTX")
    except BuildError as error:
        if wanted == "cuda":
            raise BuildError(f"BNINV_BUILD is 'cuda', but {error}") from None
        cause = f"TORCH_CUDA_ARCH_LIST is {named!r}" if named else "a GPU is present"
        line = f"no CUDA kernels, although {cause}: {error}"
        if tell is not None:
            tell(line)
        else:
            line = f"bninv: {line} (BNINV_BUILD=cpu silences this)"
            print(line, file=sys.stderr, flush=True)
        return None
    return CudaBuild(toolkit, chosen)


def _matching_toolkit(torch_cuda: str | None, candidates: Sequence[Path]) -> Toolkit:
    if not torch_cuda:
        raise BuildError("this torch was built without CUDA: install a CUDA build of torch")
    major = int(torch_cuda.split(".")[0])
    toolkits = find_toolkits(candidates)
    for toolkit in toolkits:
        if toolkit.major == major:
            return toolkit
    remedy = f"install CUDA {torch_cuda}'s toolkit"
    if major >= 13:
        remedy += f" (`pip install '{WHEELS}=={torch_cuda}.*'` will do)"
    remedy += " or name it in CUDA_HOME"
    if toolkits:
        found = ", ".join(f"CUDA {t.version[0]}.{t.version[1]} in {t.home}" for t in toolkits)
        raise BuildError(
            f"torch was built with CUDA {torch_cuda}, but the toolkits found are {found}, and the "
            f"major versions must be equal: {remedy}"
        )
    places = ", ".join(map(str, candidates)) or "no candidate"
    raise BuildError(
        "no CUDA toolkit with bin/nvcc, include/cuda_runtime.h and libcudart was found (looked "
        f"at: {places}): {remedy}"
    )


def misfit(
    built: str,
    torch_cuda: str | None,
    environ: Mapping[str, str] = os.environ,
    present: Callable[[], Sequence[str]] | None = None,
) -> str:
    """Why a library that was `built` with that CUDA (its `embedded_cuda`) is of no use, or "".

    Args:
        present: in place of `present_architectures`; asked only where all else fits.
    """
    if not built:
        only_cpu = requested_build(environ) == "cuda"
        return "it was compiled for the CPU only, and BNINV_BUILD is 'cuda'" if only_cpu else ""
    major, _, architectures = built.partition(";")
    if not torch_cuda:
        return f"it was compiled for CUDA {major}, but this torch was built without CUDA"
    if torch_cuda.split(".")[0] != major:
        return f"it was compiled for CUDA {major}, but this torch was built with CUDA {torch_cuda}"
    gpus = (present or present_architectures)()
    # Where it serves one of several GPUs it is of use; on the others a launch fails, and says why.
    if gpus and not any(runs_on(gpu, architectures.split(",")) for gpu in gpus):
        return (
            f"its CUDA kernels were compiled for compute capability {architectures}, and a GPU "
            f"here has {', '.join(gpus)}"
        )
    return ""


def runs_on(gpu: str, architectures: Sequence[str]) -> bool:
    """Whether a GPU of that capability runs code for one of those, such as "8.0" or "9.0+PTX".

    Machine code runs on its own major version from its minor one on, PTX on everything newer.
    """
    own = number(gpu)
    return any(
        number(name) <= own and (name.endswith("+PTX") or number(name)[0] == own[0])
        for name in architectures
    )


# ---- For which GPUs ------------------------------------------------------------------------------

# The driver is asked in a process of its own: once a process has initialised it, CUDA no longer
# works in that process's forks, and whoever uses bninv on the CPU shall not notice the GPU.
_ASK_DRIVER = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, device, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
    for i in range(count.value):
        if cuda.cuDeviceGet(ctypes.byref(device), i) == 0:
            capability = []
            for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
                cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
                capability.append(str(value.value))
            print(".".join(capability))
"""


def present_architectures() -> tuple[str, ...]:
    """The compute capabilities of the visible GPUs, each once, lowest first."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return ()
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()  # no driver, the ordinary case on a machine without a GPU
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ASK_DRIVER],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(sorted(set(re.findall(r"^\d+\.\d$", done.stdout, re.MULTILINE)), key=number))


def parse_architectures(text: str, known: Sequence[str], toolkit: Toolkit) -> tuple[str, ...]:
    """TORCH_CUDA_ARCH_LIST's value, "8.0;9.0+PTX", with spaces or semicolons: sorted, each once."""
    plain: dict[str, bool] = {}  # whether PTX is wanted as well
    for word in re.split(r"[;\s]+", text.strip("; \t\n")):
        match = re.fullmatch(r"(\d+\.\d)(\+PTX)?", word, re.IGNORECASE)
        if match is None:
            raise BuildError(
                f"TORCH_CUDA_ARCH_LIST holds {word!r}: name compute capabilities in numbers, "
                "without letters, such as '8.0;9.0+PTX'"
            )
        name = match.group(1)
        if name not in known:
            raise BuildError(
                f"TORCH_CUDA_ARCH_LIST holds {word!r}, which the toolkit in {toolkit.home} cannot "
                f"compile for; it knows {', '.join(known)}"
            )
        plain[name] = plain.get(name, False) or match.group(2) is not None
    return tuple(f"{name}+PTX" if plain[name] else name for name in sorted(plain, key=number))


def _serving(gpus: Sequence[str], known: Sequence[str], toolkit: Toolkit) -> tuple[str, ...]:
    """What to compile for the GPUs: their own capability, else an older one of the same major.

    Code for 12.0 runs on 12.1, so a GPU that is newer than the toolkit is served where it can be.
    """
    chosen = set()
    for gpu in gpus:
        major, minor = number(gpu)
        fitting = [k for k in known if number(k)[0] == major and number(k)[1] <= minor]
        if not fitting:
            raise BuildError(
                f"the toolkit in {toolkit.home} cannot compile for compute capability {gpu} of a "
                f"GPU here; it knows {', '.join(known)}"
            )
        chosen.add(max(fitting, key=number))
    return tuple(sorted(chosen, key=number))


def number(architecture: str) -> tuple[int, int]:
    """(9, 0) of "9.0" and of "9.0+PTX"."""
    major, minor = architecture.removesuffix("+PTX").split(".")
    return int(major), int(minor)
