"""Builds the library of C++ operators: the compiler's half, nvcc's half, and the link.

The compiler is called through torch's build helpers, nvcc as nvcc.py says.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from . import nvcc, recipe
from .cache import cannot_write, say
from .cuda_choice import CudaBuild
from .recipe import BuildError


def compile_library(csrc: Path, final: Path, cuda: CudaBuild | None) -> None:
    """Build the library aside, load it, and rename its folder to `final`."""
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-", dir=final.parent))
    try:
        objects = work / "build"
        sources = recipe.write_wrappers(objects, csrc, cuda=cuda.description if cuda else "")
        if cuda:
            gpus = ", ".join(cuda.architectures)
            what = f"C++ and CUDA operators for compute capability {gpus}"
            time = "some minutes" if len(cuda.architectures) < 3 else "many minutes"
        else:
            what, time = "C++ operators", "a minute on many processors, three on two"
        say(f"compiling the {what}, once ({time}), into {final}")
        try:
            if cuda:
                built = _build_with_cuda(cuda, csrc, objects, sources, final)
            else:
                built = _build_cpp(csrc, objects, sources, [], [])
        except (RuntimeError, OSError) as error:
            if isinstance(error, BuildError):
                raise
            raise _compile_error(reason(error), final) from None
        os.replace(built, work / "_C.so")
        shutil.rmtree(objects, ignore_errors=True)
        with contextlib.suppress(FileExistsError), _sync(work / "_C.so"):
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build_with_cuda(
    cuda: CudaBuild, csrc: Path, objects: Path, sources: list[Path], final: Path
) -> str:
    """With nvcc and the C++ compiler side by side; the link needs what both have made."""
    compile_flags = [*nvcc.CPP_FLAGS]
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
            extra_cflags=recipe.compile_flags() + compile_flags,
            extra_ldflags=recipe.link_flags() + link_flags,
            extra_include_paths=[str(csrc)],
            build_directory=str(objects),
            with_cuda=False,
            is_python_module=False,
        )
    return str(built)


def _compile_cuda(cuda: CudaBuild, csrc: Path, folder: Path, final: Path) -> list[str]:
    """Run nvcc; returns what the link then needs."""
    try:
        objects = nvcc.compile_objects(cuda, csrc, folder)
    except BuildError as error:
        raise _compile_error(str(error), final) from None
    flags = nvcc.link_flags(cuda, Path(torch.__file__).parent / "lib")
    # These go through a ninja file and a shell as they are.
    return [shlex.quote(flag).replace("$", "$$") for flag in [*map(str, objects), *flags]]


@contextlib.contextmanager
def _sync(path: Path) -> Iterator[None]:
    # On disk before the rename is: a crash must not leave a finished name with half a library.
    with path.open("rb") as file:
        os.fsync(file.fileno())
    yield


def reason(error: BaseException) -> str:
    # torch reports only which library could not be loaded, and hangs the loader's own words on it.
    return str(error.__cause__ if isinstance(error, OSError) and error.__cause__ else error)


def _compile_error(output: str, final: Path) -> BuildError:
    """One message from a failed build: the compiler's errors, and where its whole output is."""
    if "No space left on device" in output:
        return cannot_write(final.parent, OSError(errno.ENOSPC, "No space left on device"))
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
