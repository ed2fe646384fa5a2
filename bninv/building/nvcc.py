"""nvcc: its command lines, and what it and the link need of each other.

nvcc is called here and not through torch's build helpers, whose toolkit may be the wrong one (see
cuda_toolkit.py). It only ever sees csrc/cuda/*.cu, which know no torch: each gives an object that
joins the C++ objects at the link.

Imports neither torch nor anything that does, so that `setup.py` can use it.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cuda_choice import CudaBuild, number
from .cuda_toolkit import WHEELS, Toolkit
from .recipe import BuildError, nvcc_flags, source_dir


def nvcc_command(
    toolkit: Toolkit,
    source: Path,
    output: Path,
    architectures: Sequence[str],
    *,
    kind: str = "object",
    defines: Sequence[str] = (),
    csrc: Path | None = None,
    threads: int = 1,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """The command that compiles `source` into `output`.

    Args:
        architectures: "9.0" gives machine code, "9.0+PTX" PTX beside it. One, plain, unless `kind`
            is "object".
        kind: "object", to be linked; "ptx", text; "cubin", machine code for cuobjdump and nvdisasm.
        defines: "NAME" or "NAME=VALUE".
        threads: how many architectures are compiled at a time.
    """
    command = [str(toolkit.nvcc), *nvcc_flags(environ)]
    if kind == "object":
        command.append("-c")
        for name in architectures:
            digits = "{}{}".format(*number(name))
            command.append(f"-gencode=arch=compute_{digits},code=sm_{digits}")
            if name.endswith("+PTX"):
                command.append(f"-gencode=arch=compute_{digits},code=compute_{digits}")
        if threads > 1 and len(architectures) > 1:
            command.append(f"--threads={threads}")
    elif kind in ("ptx", "cubin") and len(architectures) == 1:
        digits = "{}{}".format(*number(architectures[0]))
        command += [f"-{kind}", f"-arch={'compute' if kind == 'ptx' else 'sm'}_{digits}"]
    else:
        raise ValueError(f"kind={kind!r} with {len(architectures)} architectures")
    compiler = shlex.split(environ.get("CXX") or "")
    # One word is a compiler, several are one behind ccache or with flags, which nvcc cannot take.
    if len(compiler) == 1 and not environ.get("NVCC_CCBIN"):
        found = shutil.which(compiler[0], path=environ.get("PATH", os.defpath))
        command += ["-ccbin", found or compiler[0]]
    command += [f"-D{name}" for name in defines]
    command += [f"-I{csrc or source_dir()}", *(f"-I{folder}" for folder in toolkit.include)]
    return [*command, str(source), "-o", str(output)]


def nvcc_environment(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment nvcc runs in: its temporary files below `folder`, and no flags of the user's.

    These variables would let --use_fast_math in.
    """
    removed = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
    kept = {name: value for name, value in environ.items() if name not in removed}
    return {**kept, "TMPDIR": str(folder)}


def compile_objects(
    build: CudaBuild, csrc: Path, folder: Path, environ: Mapping[str, str] = os.environ
) -> list[Path]:
    """Compile every csrc/cuda/*.cu into `folder`, several at a time; returns the objects.

    Raises:
        BuildError: with all that nvcc printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(csrc.glob("cuda/*.cu"))
    processors = len(os.sched_getaffinity(0))
    threads = max(1, processors // len(sources))

    def compile_one(source: Path) -> Path:
        output = folder / f"cuda_{source.stem}.o"
        command = nvcc_command(
            build.toolkit, source, output, build.architectures,
            csrc=csrc, threads=threads, environ=environ,
        )  # fmt: skip
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=nvcc_environment(folder, environ),
        )
        if done.returncode:
            raise BuildError(f"{shlex.join(command)}\n{done.stdout}{_hint(done.stdout)}")
        return output

    with concurrent.futures.ThreadPoolExecutor(processors) as pool:
        running = [pool.submit(compile_one, source) for source in sources]
        try:
            return [future.result() for future in running]
        except BaseException:
            for future in running:
                future.cancel()
            raise


def _hint(output: str) -> str:
    if re.search(r"Unsupported \.version", output):
        return (
            "error: nvcc and nvvm are wheels of different versions: install matching ones with "
            f"`pip install --force-reinstall '{WHEELS}==VERSION'`, VERSION as `pip show "
            "cuda-toolkit` names it\n"
        )
    return ""


# ---- What the C++ half needs to know -------------------------------------------------------------

# csrc/ops then declares and calls the kernels' launchers.
CPP_FLAGS = ("-DBNINV_HAVE_CUDA=1",)


def link_flags(build: CudaBuild, torch_libraries: Path) -> list[str]:
    """What the link needs beside nvcc's objects; to be put behind all objects.

    The runtime is the one torch has loaded, so that a toolkit newer than it fails here, by the name
    of what is missing, and not at the first launch: hence also -z defs.
    """
    flags = [f"-L{torch_libraries}", "-ltorch_cuda", "-lc10_cuda", "-Wl,-z,defs"]
    loaded = _loaded_cudart(build.toolkit.major)
    if loaded:
        return [*flags, str(loaded)]
    # A torch with the runtime inside: ours has to be found by itself.
    return [*flags, str(build.toolkit.cudart), f"-Wl,-rpath,{build.toolkit.cudart.parent}"]


def _loaded_cudart(major: int, maps: Path = Path("/proc/self/maps")) -> Path | None:
    """The CUDA runtime in this process: torch's, once torch is imported."""
    try:
        text = maps.read_text(errors="replace")
    except OSError:
        return None
    match = re.search(rf"\s(/.*/libcudart[^/]*\.so\.{major}(\.[\d.]+)?)$", text, re.MULTILINE)
    return Path(match.group(1)) if match else None
