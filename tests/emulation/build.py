"""Compiles CUDA sources for the host, against the emulation in this folder.

    library = build(["csrc/cuda/batch_norm.cu", "driver.cpp"], defines=["BNINV_FAULT=1"])

A `.cu` file is compiled as C++ with the headers of `include/` in the place of CUDA's; any other
source is C++ as it stands. Knows no torch: flags, include folders and libraries that a torch
extension needs are arguments. Objects are kept under names made from everything that went into
them, in `BNINV_CACHE_DIR` or `BNINV_EMULATION_CACHE` if one is set, else in a folder that ends with
this process. What several processes ask for is compiled by one of them.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tests.support.places import CSRC, ROOT

HERE = Path(__file__).resolve().parent
RUNTIME = sorted((HERE / "runtime").glob("*.cpp"))
DEFAULT_ARCH = 900
WORKERS = 2

# Behind those of recipe.py, so these win. -g1: enough for line numbers. nvcc, too, lets memory be
# read as another type; its pragmas, such as `unroll`, are not the host compiler's.
FLAGS = ["-O1", "-g1", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-fno-strict-aliasing"]


@functools.cache
def build_description() -> ModuleType:
    """bninv/building/recipe.py, by path: importing the package would import torch."""
    spec = spec_from_file_location("bninv_build", ROOT / "bninv" / "building" / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="bninv-emulation-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def cache_folder() -> Path:
    """Where objects and libraries are kept."""
    configured = os.environ.get("BNINV_CACHE_DIR") or os.environ.get("BNINV_EMULATION_CACHE")
    folder = Path(configured) / "emulation" if configured else _temporary_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _compiler() -> tuple[list[str], str]:
    return shlex.split(os.environ.get("CXX") or "c++"), build_description().compiler_identity()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _run(command: list[str], output: Path) -> None:
    """Run a compiler that writes to `output`, which appears only once it is whole."""
    temporary = output.with_name(f"{output.name}.{os.getpid()}.{threading.get_ident()}")
    done = subprocess.run(
        [*command, "-o", str(temporary)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        temporary.unlink(missing_ok=True)
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    temporary.replace(output)


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """One process or thread at a time makes `output`; the lock ends with whoever holds it."""
    with output.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_flags(defines: Sequence[str] = ()) -> list[str]:
    """The flags of every source."""
    return [
        *build_description().compile_flags(),
        *FLAGS,
        "-DBNINV_EMULATION",
        *(f"-D{define}" for define in defines),
        f"-I{HERE / 'include'}",
        f"-I{CSRC}",
    ]


def _dependencies(text: str) -> list[str]:
    """The files that a make rule written by the compiler names."""
    return shlex.split(text.replace("\\\n", " ").partition(": ")[2])


def compile_object(source: Path, flags: Sequence[str], folder: Path | None = None) -> Path:
    """The object file of `source`, compiled unless nothing that it includes has changed.

    Kept in `folder`, if given, in place of the cache.
    """
    compiler, identity = _compiler()
    # As under nvcc, a .cu file starts with cuda_runtime.h, and its arithmetic is in namespace cuda.
    language = (
        ["-x", "c++", "-DBNINV_LEVEL=cuda", "-include", str(HERE / "include" / "cuda_runtime.h")]
        if source.suffix == ".cu"
        else []
    )
    command = [*compiler, *flags, *language, "-c", str(source)]
    folder = folder or cache_folder()
    # What was included the last time tells which contents to compare.
    rule = folder / f"{_digest(identity, *command)}.d"

    def keyed() -> Path | None:
        try:
            contents = [Path(name).read_text() for name in _dependencies(rule.read_text())]
        except OSError:
            return None
        return folder / f"{source.stem}-{_digest(identity, *command, *contents)}.o"

    with _alone(rule):
        known = keyed()
        if known is not None and known.exists():
            return known
        fresh = folder / f"{source.stem}.{os.getpid()}.{threading.get_ident()}.fresh"
        _run([*command, "-MMD", "-MF", f"{fresh}.d"], fresh)
        Path(f"{fresh}.d").replace(rule)
        known = keyed()
        assert known is not None
        return fresh.replace(known)


def build(
    sources: Sequence[Path | str],
    defines: Sequence[str] = (),
    extra_flags: Sequence[str] = (),
    *,
    arch: int = DEFAULT_ARCH,
    link_flags: Sequence[str] = (),
    program: bool = False,
    scratch: Path | None = None,
) -> Path:
    """Compile `sources` with the emulation into a shared library, or into a program.

    Args:
        defines: macros for the sources, as `NAME` or `NAME=value`.
        extra_flags: given to compiler and linker, such as `-fsanitize=address`; last, so they win.
        arch: __CUDA_ARCH__, and the device's architecture at run time unless that is set.
        link_flags: libraries and where they lie.
        program: one of the sources has a `main`.
        scratch: the result, and objects of sources in this folder, are kept there: what nobody
            will ask for again does not fill the cache.

    Raises:
        RuntimeError: a compiler failed; the message holds its command and its output.
    """
    for_arch = f"BNINV_EMULATED_ARCH={arch}"
    own = [*compile_flags([for_arch, *defines]), *extra_flags]
    jobs = [(Path(source).resolve(), own) for source in sources]
    for source in RUNTIME:  # one file needs the architecture: the others serve all of them
        needed = [for_arch] if source.name == "emulation.cpp" else []
        jobs.append((source, [*compile_flags(needed), *extra_flags]))

    def compiled(job: tuple[Path, list[str]]) -> Path:
        own_folder = scratch is not None and job[0].is_relative_to(scratch.resolve())
        return compile_object(*job, scratch if own_folder else None)

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        objects = list(pool.map(compiled, jobs))
    compiler, identity = _compiler()
    kind = [] if program else ["-shared"]
    command = [*compiler, *kind, *extra_flags, *map(str, objects), *link_flags, "-pthread", "-ldl"]
    name = f"{Path(sources[0]).stem}-{_digest(identity, *command)}"
    output = (scratch or cache_folder()) / (name if program else f"{name}.so")
    with _alone(output):
        if not output.exists():
            _run(command, output)
    return output
