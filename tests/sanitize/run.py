"""Builds the CPU kernels with the address and undefined-behaviour sanitizers and runs main.cpp.

The kernels know no torch, so this needs a C++ compiler and nothing else:
`python3 tests/sanitize/run.py`.
"""

import concurrent.futures
import os
import shlex
import subprocess
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# float-cast-overflow is not part of `undefined`: such a cast gives other values on other machines.
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
FLAGS = [SANITIZERS, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]


def load_build_description():
    """bninv/_build.py, by path: importing the package would import torch."""
    spec = spec_from_file_location("bninv_build", ROOT / "bninv" / "_build.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Compile, link, run; the exit status is the driver's."""
    build = load_build_description()
    try:
        build.compiler_identity()
    except build.BuildError as error:
        sys.exit(f"bninv: {error}")
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    csrc = build.source_dir()
    flags = [*build.compile_flags(), *FLAGS, f"-I{csrc}"]
    # The tiles of AVX-512 on any machine: most machines that run this lack the instructions.
    emulated = build.Level("emulated16", 16, None, emulated=True)
    # GCC would warn that such vectors are passed differently with and without the instructions.
    flags.append("-Wno-psabi")
    with tempfile.TemporaryDirectory(prefix="bninv-sanitize-") as folder:
        units = [
            *build.write_wrappers(Path(folder), csrc, operators=False, extra_levels=[emulated]),
            HERE / "main.cpp",
        ]
        objects = [Path(folder) / f"{unit.stem}.o" for unit in units]
        print(f"bninv: compiling {len(units)} files with {SANITIZERS}", flush=True)

        def compile_unit(unit: Path, output: Path) -> int:
            command = [*compiler, *flags, "-c", str(unit), "-o", str(output)]
            return subprocess.run(command, check=False).returncode

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            if any(pool.map(compile_unit, units, objects)):
                return 1
        program = Path(folder) / "sanitize"
        link = [*compiler, SANITIZERS, *map(str, objects), "-o", str(program)]
        if subprocess.run(link, check=False).returncode:
            return 1
        return subprocess.run([str(program)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
