"""What is compiled, and how: one description for ahead-of-time and just-in-time builds.

`setup.py` and compilation.py both ask this module for the sources and the flags, and cuda_choice.py
for the CUDA half. It imports neither torch nor any other part of bninv, so that it can be loaded by
path.

The translation units that reach the compiler are small generated wrappers. There are two reasons:
both build systems put all objects into one folder or name them by basename (`ops/conv2d.cpp` and
`cpu/conv2d.cpp` would collide), and each kernel file is compiled once per instruction-set level
while a build has a single list of flags.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The oldest torch whose stable ABI is used: a library built against any newer torch runs on it.
MINIMUM_TORCH = (2, 10)

KEY_PREFIX = b"bninv-build-key:"
CUDA_PREFIX = b"bninv-build-cuda:"


class BuildError(RuntimeError):
    """The operators cannot be built or found here; the message says what to install or to do."""


@dataclass(frozen=True)
class Level:
    """One instruction-set level: its name, its vector width in floats, its compiler target."""

    name: str
    width: int
    target: str | None  # None: the compiler's baseline for this machine
    gcc_only: str = ""  # further parts of the target that clang does not know
    emulated: bool = False  # vectors of this width, lane by lane: for tests on lesser machines


_SCALAR = Level("scalar", 1, None)
_LEVELS = {
    "x86_64": (
        _SCALAR,
        Level("avx2", 8, "avx2,fma,f16c"),
        # GCC tunes its own vectoriser to 256 bits for many CPUs; hand-written vectors are as wide
        # as kWidth either way.
        Level(
            "avx512",
            16,
            "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c",
            gcc_only="prefer-vector-width=512",
        ),
    ),
    # NEON is part of every aarch64. Its registers hold four floats, its vectors are pairs of them.
    "aarch64": (_SCALAR, Level("neon", 8, None)),
}

# Headers that only one machine's compiler has.
_MACHINE_HEADERS = {"immintrin.h": "__x86_64__", "arm_neon.h": "__aarch64__"}


def _architecture(machine: str | None) -> str:
    machine = (machine or platform.machine()).lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def levels(machine: str | None = None) -> tuple[Level, ...]:
    """The levels built for `machine` (default: this one), the least demanding first."""
    return _LEVELS.get(_architecture(machine), (_SCALAR,))


def source_dir() -> Path:
    """The folder of C++ sources: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "csrc", package.parent / "csrc"):
        if (candidate / "numerics.h").is_file():
            return candidate
    raise BuildError(f"bninv's C++ sources are missing from {package / 'csrc'}: reinstall bninv")


# ---- Translation units ---------------------------------------------------------------------------


def _prelude(csrc: Path) -> str:
    """Every system header the kernels use, to be included before the target is raised.

    An inline function of the standard library that is parsed under a raised target is compiled for
    it, and the linker may then keep that copy for the whole library: an illegal instruction on a
    lesser machine.
    """
    names: set[str] = set()
    for path in [*csrc.glob("*.h"), *csrc.glob("cpu/*.h"), *csrc.glob("cpu/*.cpp")]:
        names.update(re.findall(r"^\s*#\s*include\s*<([^>]+)>", path.read_text(), re.MULTILINE))
    lines = [f"#include <{name}>" for name in sorted(names - _MACHINE_HEADERS.keys())]
    for name, macro in _MACHINE_HEADERS.items():
        if name in names:
            lines += [f"#if defined({macro})", f"#include <{name}>", "#endif"]
    return "\n".join(lines)


def _kernel_wrapper(include: str, level: Level, prelude: str) -> str:
    head = f"#define BNINV_LEVEL {level.name}\n#define BNINV_VEC_WIDTH {level.width}\n{prelude}\n"
    if level.emulated:
        head = f"#define BNINV_EMULATED_VECTORS\n{head}"
    if level.target is None:
        return f'{head}#include "{include}"\n'
    # GCC compiles the constructors that it writes itself for the baseline whatever the pragma says,
    # and then cannot inline the vector type's operations into them ("target specific option
    # mismatch"): a kernel class that holds vectors spells its constructor out.
    gcc_target = ",".join(filter(None, (level.target, level.gcc_only)))
    attribute = f'__attribute__((target("{level.target}")))'
    return (
        f"{head}"
        "#if defined(__clang__)\n"
        f"#pragma clang attribute push({attribute}, apply_to = function)\n"
        "#else\n"
        "#pragma GCC push_options\n"
        f'#pragma GCC target("{gcc_target}")\n'
        "#endif\n"
        f'#include "{include}"\n'
        "#if defined(__clang__)\n"
        "#pragma clang attribute pop\n"
        "#else\n"
        "#pragma GCC pop_options\n"
        "#endif\n"
    )


def wrappers(
    csrc: Path,
    operators: bool = True,
    extra_levels: Sequence[Level] = (),
    cuda: str = "",
    machine: str | None = None,
) -> dict[str, str]:
    """File name -> text of each translation unit. The texts hold no absolute path.

    With `operators=False` only the kernels of csrc/cpu: they know no torch, so a test driver can be
    linked against them alone. `extra_levels` are compiled beside the machine's own. `cuda` says
    what the library's CUDA kernels are compiled for, if it has any. `machine` is as for `levels`:
    another one is cross-compiled for.
    """
    prelude = _prelude(csrc)
    units = {
        f"cpu_{path.stem}_{level.name}.cpp": _kernel_wrapper(f"cpu/{path.name}", level, prelude)
        for path in sorted(csrc.glob("cpu/*.cpp"))
        for level in (*levels(machine), *extra_levels)
    }
    if operators:
        for path in sorted(csrc.glob("ops/*.cpp")):
            units[f"ops_{path.stem}.cpp"] = f'#include "ops/{path.name}"\n'
        # Read back from a library's bytes, without loading it, by `embedded_key` and
        # `embedded_cuda`.
        units["build_key.cpp"] = "".join(
            'extern "C" __attribute__((used, visibility("default")))\n'
            f'const char bninv_{name}[] = "{text}";\n'
            for name, text in (
                ("build_key", KEY_PREFIX.decode() + source_key(csrc)),
                ("build_cuda", CUDA_PREFIX.decode() + (cuda or "none")),
            )
        )
    return units


def write_wrappers(
    directory: Path,
    csrc: Path,
    operators: bool = True,
    extra_levels: Sequence[Level] = (),
    cuda: str = "",
    machine: str | None = None,
) -> list[Path]:
    """Write the wrappers into `directory` and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in wrappers(csrc, operators, extra_levels, cuda, machine).items():
        path = directory / name
        path.write_text(text)
        paths.append(path)
    return paths


# ---- Flags and keys ------------------------------------------------------------------------------


def compile_flags(environ: Mapping[str, str] = os.environ, machine: str | None = None) -> list[str]:
    """The C++ compiler's flags, for `machine` as in `levels`. BNINV_WERROR=1 makes warnings errors.

    Values must not depend on the compiler's mood: no contraction, nothing from the -ffast-math
    family that changes a result, and no -march=native. -fno-math-errno and -fno-trapping-math only
    drop errno and exception flags, which nobody reads, and let square roots and selects become
    instructions. OpenMP is not needed: threads come from torch's own parallel_for.
    """
    flags = [
        "-std=c++20",
        "-fno-fast-math",  # setuptools puts the user's own CFLAGS before these
        "-O3",
        "-g0",
        "-fPIC",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fvisibility=hidden",
        "-fvisibility-inlines-hidden",
        "-Wno-psabi",
        "-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000".format(*MINIMUM_TORCH),
    ]
    flags += [f"-DBNINV_HAVE_{level.name.upper()}=1" for level in levels(machine)]
    if _architecture(machine) == "aarch64":
        # There, not on x86, GCC moves instructions before it deals out registers: a tile's loads
        # all come first, and some of its sums go to memory for want of a register. clang has no
        # such flag and would warn.
        flags += ["-fno-schedule-insns", "-Wno-ignored-optimization-argument"]
    if environ.get("BNINV_WERROR", "0") not in ("", "0"):
        flags += ["-Wall", "-Wextra", "-Werror"]
        # GCC 12 suspects every std::optional of a class; clang does not know the name.
        flags += ["-Wno-maybe-uninitialized", "-Wno-unknown-warning-option"]
    return flags


def nvcc_flags(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The flags of nvcc. BNINV_WERROR=1 makes warnings errors, for CI.

    As for C++, nothing that changes a value: no contraction, denormal numbers kept, division and
    square root correctly rounded. The last three are nvcc's defaults, written out because the
    results rest on them.
    """
    flags = [
        "-std=c++20",
        "-O3",
        "--fmad=false",
        "-ftz=false",
        "-prec-div=true",
        "-prec-sqrt=true",
        "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off",
    ]
    if environ.get("BNINV_WERROR", "0") not in ("", "0"):
        flags += ["-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror"]
    return flags


def link_flags() -> list[str]:
    """The linker's flags.

    torch's build helpers also name libtorch_python, which nothing uses here: --as-needed drops it,
    so that one library serves every Python version.
    """
    return ["-Wl,--as-needed"]


def _digest(parts: list[str | bytes]) -> str:
    # The length of each part goes in as well, so that no two lists of parts read the same.
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:24]


def source_key(csrc: Path) -> str:
    """What a library was made from: sources, levels, flags."""
    parts: list[str | bytes] = [*compile_flags({}), *link_flags(), *nvcc_flags({})]
    parts += [_kernel_wrapper("", level, _prelude(csrc)) for level in levels()]
    for path in sorted(csrc.rglob("*")):
        if path.suffix in (".h", ".cpp", ".cu", ".cuh"):
            parts += [path.relative_to(csrc).as_posix(), path.read_bytes()]
    return _digest(parts)


def toolchain_key(compiler_identity: str, torch_version: str, cuda_identity: str = "") -> str:
    """What a library was made with: compiler, torch, and nvcc with its architectures, if any."""
    return _digest([compiler_identity, torch_version, cuda_identity])


def embedded_key(library: Path) -> str | None:
    """The source key a library was built from, or None if it holds none."""
    match = re.search(re.escape(KEY_PREFIX) + rb"([0-9a-f]{24})", library.read_bytes())
    return match.group(1).decode() if match else None


def embedded_cuda(library: Path) -> str:
    """What a library's CUDA kernels were compiled for: "13;8.0,9.0+PTX"; "" if it has none."""
    match = re.search(re.escape(CUDA_PREFIX) + rb"([0-9.,;+A-Z]+)\0", library.read_bytes())
    return match.group(1).decode() if match else ""


def compiler_identity(environ: Mapping[str, str] = os.environ) -> str:
    """The name and version of the C++ compiler in use: $CXX, else c++.

    Raises:
        BuildError: there is none, or it does not run.
    """
    command = shlex.split(environ.get("CXX") or "c++")
    if not command or shutil.which(command[0], path=environ.get("PATH")) is None:
        name = command[0] if command else ""
        raise BuildError(
            f"no C++ compiler: {name!r} is not on PATH. Install one (Debian and Ubuntu: apt "
            "install g++; Fedora: dnf install gcc-c++) or name one in the environment variable CXX"
        )
    try:
        done = subprocess.run(
            [*command, "--version"], check=True, capture_output=True, text=True, env={**environ}
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(
            f"the C++ compiler {shlex.join(command)!r} does not run: {error}"
        ) from None
    return f"{shlex.join(command)} {done.stdout.strip()}"
