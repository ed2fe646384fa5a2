"""The kernels under the address and undefined-behaviour sanitizers: the CPU's at every
instruction-set level, the GPU's under tests/emulation. All must give the committed digests.

The kernels know no torch, so this needs a C++ compiler and nothing else:
`python3 -m tests.sanitize.run`; digests.py says when to add `--write`.
"""

import sys
import tempfile
from pathlib import Path

from tests.emulation import build
from tests.sanitize import digests, driver

# float-cast-overflow is not part of `undefined`: such a cast gives other values on other machines.
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
FLAGS = [SANITIZERS, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1"]
# Variables' places take most of the time and nobody looks at them. GCC suspects its own AVX-512
# headers, and that wide vectors are passed differently with and without the instructions.
FLAGS += ["-fno-var-tracking", "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Wno-psabi"]
FLAGS += ["-DBNINV_HAVE_EMULATED16=1"]


def main() -> int:
    """Compile, link, run; 0 if nothing was found and the digests are those committed."""
    description = build.build_description()
    try:
        description.compiler_identity()
    except description.BuildError as error:
        sys.exit(f"bninv: {error}")
    csrc = description.source_dir()
    # The tiles of AVX-512 on any machine: most machines that run this lack the instructions.
    emulated = description.Level("emulated16", 16, None, emulated=True)
    with tempfile.TemporaryDirectory(prefix="bninv-sanitize-") as folder:
        units = [
            *driver.units(description, Path(folder), extra_levels=[emulated]),
            *sorted(csrc.glob("cuda/*.cu")),
        ]
        print(f"bninv: compiling {len(units)} files with {SANITIZERS}", flush=True)
        try:
            program = build.build(units, extra_flags=FLAGS, program=True)
        except RuntimeError as error:
            sys.exit(f"bninv: {error}")
        status, found = digests.run([str(program)])
    if status == 0 and sys.argv[1:] == ["--write"]:
        digests.write(found)
    return digests.verdict(status, found, {"scalar", "emulated16", "cuda"})


if __name__ == "__main__":
    sys.exit(main())
