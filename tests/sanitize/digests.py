"""Digests of what the driver's levels compute, against those committed in digests.json.

One SHA-256 for every operator and storage type, over the results of all its cases. The inputs are
made from integers alone, so every machine, compiler and instruction-set level must give them.

A change of an operator's cases changes its digests. So does a change of its expression, and that is
a new CONTRACT_VERSION. After such a decision, and only then:

    python3 -m tests.sanitize.run --write
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).with_name("digests.json")

# Names of the CPU alone: its vectors, and products of both classes of tensor cores.
CPU_ONLY = ("vec", "conv2d_tensor", "conv2d_tensor_fused", "bmm_strided")

Digests = dict[str, dict[str, str]]  # level -> operator and storage type -> SHA-256


def run(command: Sequence[str]) -> tuple[int, Digests]:
    """Run the driver; its exit status, and digests of the results it wrote."""
    hashes: dict[tuple[str, str], hashlib._Hash] = {}
    with subprocess.Popen([*command, "--results"], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        while line := driver.stdout.readline():
            if not line.endswith(b"\n"):
                break  # it died while writing
            level, name, size = line.decode().rstrip("\n").split("\t")
            results = driver.stdout.read(int(size))
            hashes.setdefault((level, name), hashlib.sha256()).update(line[len(level) :] + results)
    digests: Digests = {}
    for (level, name), digest in hashes.items():
        digests.setdefault(level, {})[name] = digest.hexdigest()
    return driver.returncode, digests


def differences(digests: Digests, required: set[str]) -> list[str]:
    """What is not as committed, a line each."""
    golden: dict[str, str] = json.loads(FILE.read_text())
    lines = [f"level {level} was not run" for level in sorted(required - digests.keys())]
    for level, own in digests.items():
        expected = {name for name in golden if level != "cuda" or name.split()[0] not in CPU_ONLY}
        for name in sorted(expected | own.keys()):
            if own.get(name) != golden.get(name):
                what = "has no digest" if name not in golden else "other bits than committed"
                what = what if name in own else "was not run"
                lines.append(f"{name}, level {level}: {what}")
    return lines


def write(digests: Digests) -> None:
    """Commit the scalar level's digests."""
    FILE.write_text(json.dumps(dict(sorted(digests["scalar"].items())), indent=2) + "\n")


def verdict(status: int, digests: Digests, required: set[str]) -> int:
    """Say what was found; the exit status of a check that must have run the `required` levels."""
    found = [f"the driver failed with status {status}"] if status else []
    found += differences(digests, required)
    for line in found:
        print(f"bninv: {line}")
    if not found:
        count = sum(map(len, digests.values()))
        print(f"bninv: {count} digests of {', '.join(digests)} are those committed")
    return 1 if found else 0
