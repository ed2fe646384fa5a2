"""Finds and loads the C++ operators, on first use and never at import.

The library holds implementations for torch's dispatcher and nothing else: it uses neither Python.h
nor pybind11, so Python's development headers are not needed, it has no module initialiser, and
`torch.ops.load_library` loads it.

In order of preference: the library compiled when the package was installed (`_C*.so` in bninv's own
folder); one compiled earlier, from the user's cache folder (cache.py); one compiled now
(compilation.py).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from bninv import _torch

from . import cuda_choice, recipe
from .cache import cache_dir, cannot_write, locked, remove_abandoned
from .compilation import compile_library, reason
from .recipe import BuildError

PACKAGE = Path(__file__).resolve().parent.parent

_lock = threading.Lock()
_loaded = False
_library: Path | None = None


def load(tell: Callable[[str], None] | None = None) -> None:
    """Make the C++ operators available; compiles them if nobody has yet. Safe from any thread.

    Args:
        tell: see `load_library`.

    Raises:
        BuildError: they cannot be built here; the message says what to install or to do.
        ValueError: BNINV_CPU_CAPABILITY names a level that is unknown or that this CPU lacks.
    """
    global _loaded, _library
    if _loaded:
        return
    with _lock:
        if _loaded:
            return
        # Implementations attach to schemas: bninv.operators defined them when bninv was imported.
        if _library is None:
            _library = load_library(tell=tell)
        try:
            torch.ops.bninv._cpu_capability()
        except RuntimeError as error:
            # torch appends where in C++ the error was raised; the user's part is the first line.
            raise ValueError(str(error).split("\n", 1)[0]) from None
        _loaded = True


def is_loaded() -> bool:
    """Whether the library is in this process, so that its implementations are registered."""
    return _library is not None


def has_cuda() -> bool:
    """Whether the library in this process has CUDA kernels."""
    return _torch.has_kernel("bninv::batch_norm", "CUDA")


def load_library(
    csrc: Path | None = None,
    installed: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Load the library made from `csrc` (default: bninv's own sources) and return its path.

    Args:
        installed: the folder to look in for an ahead-of-time library; by default the package's.
        tell: called with the line that says why there are no CUDA kernels although there is a GPU;
            it is otherwise printed on standard error.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < recipe.MINIMUM_TORCH:
        raise BuildError(
            f"torch is {torch.__version__}; bninv needs at least "
            + ".".join(map(str, recipe.MINIMUM_TORCH))
        )
    csrc = csrc or recipe.source_dir()
    cuda_choice.requested_build()  # a wrong value is an error in any case
    source_key = recipe.source_key(csrc)
    for path in sorted((installed or PACKAGE).glob("_C*.so")):
        if recipe.embedded_key(path) != source_key:
            problem = "it was compiled from other sources"
        elif not (problem := _misfit(path)):
            try:
                torch.ops.load_library(path)
                return path
            except OSError as error:
                problem = reason(error)
        warnings.warn(
            f"bninv: not using {path}: {problem}; compiling afresh (or reinstall bninv)",
            stacklevel=2,
        )
    return _load_cached(csrc, source_key, tell)


def cuda_build() -> str:
    """What the loaded library's CUDA kernels were compiled for: "13;8.0,9.0+PTX"; "" for none."""
    return recipe.embedded_cuda(_library) if _library is not None else ""


def _misfit(library: Path) -> str:
    built = recipe.embedded_cuda(library)
    return cuda_choice.misfit(built, torch.version.cuda, present=_present_architectures)


def _present_architectures() -> tuple[str, ...]:
    """Of a process that uses CUDA already, its own GPUs; others do not begin to for this."""
    if not torch.cuda.is_initialized():
        return cuda_choice.present_architectures()
    found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return tuple(f"{major}.{minor}" for major, minor in sorted(found))


def _load_cached(csrc: Path, source_key: str, tell: Callable[[str], None] | None) -> Path:
    cache = cache_dir()
    try:
        compiler = recipe.compiler_identity()
    except BuildError:
        # A machine that only runs what was built elsewhere (an image without a compiler).
        # Those with CUDA first: nobody who has them wants less, but for who said so.
        found = [path for path in cache.glob(f"{source_key}-*/_C.so") if not _misfit(path)]
        cuda_first = cuda_choice.requested_build() != "cpu"
        for path in sorted(found, key=recipe.embedded_cuda, reverse=cuda_first):
            with contextlib.suppress(OSError):
                torch.ops.load_library(path)
                return path
        raise
    cuda = cuda_choice.choose_cuda(csrc, torch.version.cuda, tell=tell)
    toolchain = recipe.toolchain_key(compiler, torch.__version__, cuda.identity if cuda else "")
    key = f"{source_key}-{toolchain}"
    final = cache / key
    library = final / "_C.so"
    if _try_load(library):
        return library
    try:
        with locked(cache / f"{key}.lock"):
            # Another process may have built it while this one waited.
            if not _try_load(library):
                remove_abandoned(cache, key)
                compile_library(csrc, final, cuda)
    except OSError as error:
        raise cannot_write(cache, error) from None
    return library


# What dlopen says where this process may not have the memory, or the folder's files may not be run.
_NOT_MAPPED = ("cannot allocate", "failed to map", "cannot map", "cannot create")


def _try_load(library: Path) -> bool:
    """Load a cached library if it is there; one that is damaged is removed.

    Raises:
        BuildError: it is whole, for all that is known, and this process cannot have it. Other
            processes may be using it.
    """
    if not library.is_file():
        return False
    try:
        torch.ops.load_library(library)
    except OSError as error:
        if any(words in reason(error).lower() for words in _NOT_MAPPED):
            raise BuildError(f"cannot load the compiled operators: {reason(error)}") from None
        shutil.rmtree(library.parent, ignore_errors=True)
        return False
    return True
