"""Finds, builds and loads the C++ operators, on first use and never at import.

The library holds implementations for torch's dispatcher and nothing else: it uses neither Python.h
nor pybind11, so Python's development headers are not needed, it has no module initialiser, and
`torch.ops.load_library` loads it.

In order of preference: the library compiled when the package was installed (`_C*.so` beside this
file); one compiled earlier, from the user's cache folder; one compiled now. The cache folder holds

    KEY/_C.so            a finished library; KEY is the sources' key and the toolchain's
    KEY.lock             locked by the process that builds KEY; the kernel unlocks it if that dies
    KEY.tmp-XXXXXXXX/    a build in progress, renamed to KEY when finished
    KEY.log              the compiler's output, when a build failed
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import logging
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from . import _build, _cuda_build, _nvcc
from ._build import BuildError

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
        # Implementations attach to schemas, and those are defined in Python.
        from . import operators  # noqa: F401

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
    return torch._C._dispatch_has_kernel_for_dispatch_key("bninv::batch_norm", "CUDA")


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
    if version < _build.MINIMUM_TORCH:
        raise BuildError(
            f"torch is {torch.__version__}; bninv needs at least "
            + ".".join(map(str, _build.MINIMUM_TORCH))
        )
    csrc = csrc or _build.source_dir()
    _cuda_build.requested_build()  # a wrong value is an error in any case
    source_key = _build.source_key(csrc)
    for path in sorted((installed or Path(__file__).parent).glob("_C*.so")):
        if _build.embedded_key(path) != source_key:
            problem = "it was compiled from other sources"
        elif not (problem := _misfit(path)):
            try:
                torch.ops.load_library(path)
                return path
            except OSError as error:
                problem = _reason(error)
        warnings.warn(
            f"bninv: not using {path}: {problem}; compiling afresh (or reinstall bninv)",
            stacklevel=2,
        )
    return _load_cached(csrc, source_key, tell)


def cuda_build() -> str:
    """What the loaded library's CUDA kernels were compiled for: "13;8.0,9.0+PTX"; "" for none."""
    return _build.embedded_cuda(_library) if _library is not None else ""


def _misfit(library: Path) -> str:
    built = _build.embedded_cuda(library)
    return _cuda_build.misfit(built, torch.version.cuda, present=_present_architectures)


def _present_architectures() -> tuple[str, ...]:
    """Of a process that uses CUDA already, its own GPUs; others do not begin to for this."""
    if not torch.cuda.is_initialized():
        return _cuda_build.present_architectures()
    found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return tuple(f"{major}.{minor}" for major, minor in sorted(found))


def cache_dir() -> Path:
    """The user's private folder for compiled operators, created if it is missing.

    $BNINV_CACHE_DIR, else $XDG_CACHE_HOME/bninv, else ~/.cache/bninv.

    Raises:
        BuildError: it cannot be created, or others could put a library of theirs into it.
    """
    if named := os.environ.get("BNINV_CACHE_DIR"):
        folder = Path(named).absolute()
    elif base := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(base).absolute() / "bninv"
    else:
        try:
            folder = Path.home() / ".cache" / "bninv"
        except RuntimeError:
            raise BuildError(
                "this user has no home folder to keep compiled operators in: set BNINV_CACHE_DIR "
                "to a folder that can be written"
            ) from None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise _cannot_write(folder, error) from None
    # What is loaded from here runs with the user's rights. Root could do that anyway.
    if found.st_uid not in (os.getuid(), 0):
        raise BuildError(
            f"the cache folder {folder} belongs to another user (uid {found.st_uid}): set "
            "BNINV_CACHE_DIR to a folder of your own"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"the cache folder {folder} can be written by other users (mode "
            f"{stat.S_IMODE(found.st_mode):o}): run `chmod go-w` on it, or set BNINV_CACHE_DIR"
        )
    return folder


def _cannot_write(folder: Path, error: OSError) -> BuildError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(
            f"no space left for compiled operators in {folder}: free some, or set BNINV_CACHE_DIR "
            "to a folder on another disk"
        )
    return BuildError(
        f"cannot write compiled operators to {folder} ({error.strerror or error}): set "
        "BNINV_CACHE_DIR to a folder that can be written"
    )


def _load_cached(csrc: Path, source_key: str, tell: Callable[[str], None] | None) -> Path:
    cache = cache_dir()
    try:
        compiler = _build.compiler_identity()
    except BuildError:
        # A machine that only runs what was built elsewhere (an image without a compiler).
        # Those with CUDA first: nobody who has them wants less, but for who said so.
        found = [path for path in cache.glob(f"{source_key}-*/_C.so") if not _misfit(path)]
        cuda_first = _cuda_build.requested_build() != "cpu"
        for path in sorted(found, key=_build.embedded_cuda, reverse=cuda_first):
            with contextlib.suppress(OSError):
                torch.ops.load_library(path)
                return path
        raise
    cuda = _cuda_build.choose_cuda(csrc, torch.version.cuda, tell=tell)
    toolchain = _build.toolchain_key(compiler, torch.__version__, cuda.identity if cuda else "")
    key = f"{source_key}-{toolchain}"
    final = cache / key
    library = final / "_C.so"
    if _try_load(library):
        return library
    try:
        with _locked(cache / f"{key}.lock"):
            # Another process may have built it while this one waited.
            if not _try_load(library):
                _remove_abandoned(cache, key)
                _compile(csrc, final, cuda)
    except OSError as error:
        raise _cannot_write(cache, error) from None
    return library


def _try_load(library: Path) -> bool:
    """Load a cached library if it is there; one that does not load is removed."""
    if not library.is_file():
        return False
    try:
        torch.ops.load_library(library)
    except OSError:
        shutil.rmtree(library.parent, ignore_errors=True)
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`. It dies with the process: a killed build blocks nobody."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another process that is compiling the operators")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: the build may be done twice, and the rename decides.
            pass
        yield


def _remove_abandoned(cache: Path, key: str) -> None:
    """Remove what killed builds left behind.

    Called with the lock on `key` held, so nobody else builds that key; builds of other keys are
    removed if their lock is free.
    """
    for folder in cache.glob("*.tmp-*"):
        owner = folder.name.split(".tmp-")[0]
        if owner == key:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with contextlib.suppress(OSError), (cache / f"{owner}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _compile(csrc: Path, final: Path, cuda: _cuda_build.CudaBuild | None) -> None:
    """Build the library aside, load it, and rename its folder to `final`."""
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-", dir=final.parent))
    try:
        objects = work / "build"
        sources = _build.write_wrappers(objects, csrc, cuda=cuda.description if cuda else "")
        if cuda:
            gpus = ", ".join(cuda.architectures)
            what = f"C++ and CUDA operators for compute capability {gpus}"
            time = "a minute or two" if len(cuda.architectures) < 3 else "several minutes"
        else:
            what, time = "C++ operators", "about a minute"
        _say(f"compiling the {what}, once ({time}), into {final}")
        try:
            if cuda:
                built = _build_with_cuda(cuda, csrc, objects, sources, final)
            else:
                built = _build_cpp(csrc, objects, sources, [], [])
        except (RuntimeError, OSError) as error:
            if isinstance(error, BuildError):
                raise
            raise _compile_error(_reason(error), final) from None
        os.replace(built, work / "_C.so")
        shutil.rmtree(objects, ignore_errors=True)
        with contextlib.suppress(FileExistsError), _sync(work / "_C.so"):
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build_with_cuda(
    cuda: _cuda_build.CudaBuild, csrc: Path, objects: Path, sources: list[Path], final: Path
) -> str:
    """With nvcc and the C++ compiler side by side; the link needs what both have made."""
    compile_flags = [*_nvcc.CPP_FLAGS]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        by_nvcc = pool.submit(_compile_cuda, cuda, csrc, objects, final)
        # Compiles everything; what comes out lacks nvcc's half, so that it cannot be loaded. The
        # second time there is nothing left to compile.
        with contextlib.suppress(OSError):
            _build_cpp(csrc, objects, sources, compile_flags, [])
        link_flags = by_nvcc.result()
    return _build_cpp(csrc, objects, sources, compile_flags, link_flags)


def _build_cpp(
    csrc: Path,
    objects: Path,
    sources: list[Path],
    compile_flags: list[str],
    link_flags: list[str],
) -> str:
    """The path of a library made of the sources and of what the flags name; it is loaded.

    Raises:
        RuntimeError: it was not compiled or linked.
        OSError: it was, and could not be loaded.
    """
    cpp_extension = _import_cpp_extension()
    with _ninja_on_path():
        if not cpp_extension.is_ninja_available():
            raise BuildError(
                "ninja is needed to compile bninv's operators and was not found: run "
                "`pip install ninja`"
            )
        # Loads the library too, so that one that cannot be loaded is never published. The lock file
        # torch makes lies in this fresh folder and is never a left-over one.
        built = cpp_extension.load(
            name="bninv_C",
            sources=[str(path) for path in sources],
            extra_cflags=_build.compile_flags() + compile_flags,
            extra_ldflags=_build.link_flags() + link_flags,
            extra_include_paths=[str(csrc)],
            build_directory=str(objects),
            with_cuda=False,
            is_python_module=False,
        )
    return str(built)


def _compile_cuda(cuda: _cuda_build.CudaBuild, csrc: Path, folder: Path, final: Path) -> list[str]:
    """Run nvcc; returns what the link then needs."""
    try:
        objects = _nvcc.compile_objects(cuda, csrc, folder)
    except BuildError as error:
        raise _compile_error(str(error), final) from None
    flags = _nvcc.link_flags(cuda, Path(torch.__file__).parent / "lib")
    # These go through a ninja file and a shell as they are.
    return [shlex.quote(flag).replace("$", "$$") for flag in [*map(str, objects), *flags]]


@contextlib.contextmanager
def _sync(path: Path) -> Iterator[None]:
    # On disk before the rename is: a crash must not leave a finished name with half a library.
    with path.open("rb") as file:
        os.fsync(file.fileno())
    yield


def _reason(error: BaseException) -> str:
    # torch reports only which library could not be loaded, and hangs the loader's own words on it.
    return str(error.__cause__ if isinstance(error, OSError) and error.__cause__ else error)


def _compile_error(output: str, final: Path) -> BuildError:
    """One message from a failed build: the compiler's errors, and where its whole output is."""
    if "No space left on device" in output:
        return _cannot_write(final.parent, OSError(errno.ENOSPC, "No space left on device"))
    log = final.with_name(f"{final.name}.log")
    with contextlib.suppress(OSError):
        log.write_text(output)
    # The first line repeats that it failed; with parallel jobs the last ones may be another file's.
    lines = output.splitlines()[output.startswith("Error building extension") :]
    errors = [line for line in lines if re.search(r"\b(error|fatal)\b", line, re.IGNORECASE)]
    text = "\n  ".join(errors[:8] or lines[-8:])
    return BuildError(f"building bninv's operators failed; the whole log is {log}\n  {text}")


def _import_cpp_extension():  # type: ignore[no-untyped-def]
    # torch reports at import which CUDA it found, which says nothing to a user of the CPU build.
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from torch.utils import cpp_extension
    except ImportError as error:
        raise BuildError(
            f"torch's build helpers cannot be imported ({error}): run `pip install setuptools`"
        ) from None
    finally:
        logger.setLevel(level)
    return cpp_extension


@contextlib.contextmanager
def _ninja_on_path() -> Iterator[None]:
    """PATH with the folder of this Python's scripts at its end for as long as the block runs.

    `pip install ninja` puts it there, and an environment need not be activated to be used.
    """
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([before, str(Path(sys.executable).parent)])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _say(text: str) -> None:
    print(f"bninv: {text}", file=sys.stderr, flush=True)
