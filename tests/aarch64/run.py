"""The CPU kernels on aarch64, scalar and NEON, under an emulator; and on this machine, every level.

Cross-compiles the driver of tests/sanitize with the library's own flags and runs it under
qemu-aarch64. Both machines must give the digests committed there, so Arm and x86 have equal bits.
Needs no torch: `python3 -m tests.aarch64.run`.
"""

from __future__ import annotations

import concurrent.futures
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.emulation.build import build_description
from tests.sanitize import digests, driver

CROSS_COMPILER = "aarch64-linux-gnu-g++"
# The first CPUs of the architecture: an instruction that came later is an error.
EMULATOR = ["qemu-aarch64", "-cpu", "cortex-a57"]
PACKAGES = {CROSS_COMPILER: "g++-aarch64-linux-gnu", EMULATOR[0]: "qemu-user"}
WORKERS = min(2, os.cpu_count() or 1)


def missing() -> str:
    """What is not installed here, and how to, in one line; "" if nothing."""
    names = [name for name in PACKAGES if shutil.which(name) is None]
    if not names:
        return ""
    packages = " ".join(PACKAGES[name] for name in names)
    return (
        f"{' and '.join(names)} not found on PATH. Debian and Ubuntu: "
        f"apt-get install --no-install-recommends {packages}"
    )


def build(compiler: list[str], machine: str, folder: Path) -> Path:
    """The driver for `machine`, linked statically: an emulator then needs no libraries of its."""
    description = build_description()
    sources = driver.units(description, folder, machine)
    flags = [*description.compile_flags(machine=machine), f"-I{description.source_dir()}"]

    def compile_one(source: Path) -> str:
        output = str(folder / f"{source.stem}.o")
        subprocess.run([*compiler, *flags, "-c", str(source), "-o", output], check=True)
        return output

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        objects = list(pool.map(compile_one, sources))
    program = folder / "driver"
    subprocess.run([*compiler, "-static", *objects, "-o", str(program)], check=True)
    return program


def check(title: str, compiler: list[str], machine: str, emulator: list[str]) -> int:
    """Build and run for `machine`; 0 if all its levels give the committed digests."""
    print(f"bninv: {title}: compiling", flush=True)
    with tempfile.TemporaryDirectory(prefix="bninv-aarch64-") as folder:
        start = time.monotonic()
        try:
            program = build(compiler, machine, Path(folder))
        except subprocess.CalledProcessError as error:
            sys.exit(f"bninv: {shlex.join(map(str, error.cmd))} failed")
        built = time.monotonic()
        status, found = digests.run([*emulator, str(program)])
        print(f"bninv: compiled in {built - start:.0f} s, ran {time.monotonic() - built:.0f} s")
        # An x86 CPU may lack all levels but the first; every aarch64 has NEON.
        names = [level.name for level in build_description().levels(machine)]
        return digests.verdict(status, found, set(names[:1] if machine == "x86_64" else names))


def main() -> int:
    """Check this machine and, unless it is one, an emulated aarch64."""
    here = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    emulate = here != "aarch64"
    if emulate and (message := missing()):
        sys.exit(f"bninv: {message}")
    try:
        build_description().compiler_identity()
    except build_description().BuildError as error:
        sys.exit(f"bninv: {error}")
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    status = check(f"{here}, this machine", compiler, here, [])
    if emulate:
        status |= check("aarch64, emulated", [CROSS_COMPILER], "aarch64", EMULATOR)
    return status


if __name__ == "__main__":
    sys.exit(main())
