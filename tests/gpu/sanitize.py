"""NVIDIA's compute-sanitizer over every tile of a convolution, then over every operator in few and
small random calls.

    python3 -m tests.gpu.sanitize [--seconds 150] [--tool initcheck]    from the project's root

Writes sanitize.json beside the other results. Exit status: 0 nothing was found; 1 something was; 2
there is no GPU or no compute-sanitizer; 3 nothing was found, but not every operator was reached.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import json_file
from tests.gpu import outcomes, processes, record, run
from tests.support.places import ROOT

TOOLS = {
    # What torch's own calls return is torch's matter.
    "memcheck": ["--report-api-errors", "no"],
    "racecheck": [],
    # All kernels: what another one wrote is no uninitialised memory.
    "initcheck": [],
    "synccheck": [],
}
OURS = ["--kernel-regex", "kns=bninv"]
FOUND = 86  # its exit status for errors
DEFAULT = ("memcheck", "racecheck")
# Seconds of a tool's share in which it begins, ends and reports; later it is ended.
AROUND = 15


def find_sanitizer() -> str | None:
    """On PATH, or in a CUDA toolkit."""
    from bninv.building import cuda_toolkit

    for home in cuda_toolkit.system_candidates():
        for folder in ("bin", "compute-sanitizer"):
            path = home / folder / "compute-sanitizer"
            if path.is_file():
                return str(path)
    return shutil.which("compute-sanitizer")


def command(sanitizer: str, tool: str, device: str, folder: Path, seconds: float) -> list[str]:
    options = ["--tool", tool, "--error-exitcode", str(FOUND)]
    options += ["--target-processes", "application-only", *TOOLS[tool]]
    options += [] if tool == "initcheck" else OURS
    work = ["operators-few", "--device", device, "--folder", str(folder)]
    return [sanitizer, *options, *processes.module("stage", *work, "--seconds", f"{seconds:.0f}")]


def examine(sanitizer: str, tool: str, device: str, seconds: float) -> dict[str, Any]:
    """One tool's findings."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A tensor's memory of its own: a cached block would hide an access beside it.
        status = processes.run_process(
            command(sanitizer, tool, device, folder, max(1.0, seconds - AROUND)),
            seconds,
            folder / "log",
            device,
            PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )
        output = record.without_paths((folder / "log").read_text(errors="replace"))
        rows = json_file.read(folder / "operators_few.json")
    print(output, flush=True)
    summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output)
    wrong = record.failures(rows)
    found = {
        "summary": summary[-1] if summary else "none",
        "first": "\n".join(re.findall(r"^=========.*", output, re.MULTILINE)[:40]),
        "reached": len(rows.get("rows", {})),
        "total": rows.get("total", 0),
        "wrong": list(wrong)[:5],
        "seconds": round(time.monotonic() - start, 1),
    }
    if status == FOUND or wrong:
        return {"status": outcomes.FAILED, **found}
    if status is not None and (status != 0 or not summary):
        return {"status": outcomes.CRASHED, **found, "first": output[-outcomes.TAIL :]}
    complete = status == 0 and record.is_complete(rows)
    return {"status": outcomes.PASSED if complete else outcomes.UNFINISHED, **found, "first": ""}


def main(arguments: list[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tool",
        action="append",
        choices=list(TOOLS),
        help=f"may be repeated (default: {', '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--seconds", type=float, default=240, help="for all tools together (default: 240)"
    )
    parser.add_argument("--folder", type=Path, help="keep results below this folder")
    parser.add_argument("--emulated", action="store_true", help="to test this command")
    chosen = parser.parse_args(arguments)
    sanitizer = find_sanitizer()
    if sanitizer is None:
        print(
            "bninv: compute-sanitizer was not found: it is part of the CUDA toolkit; put it on "
            "PATH or name the toolkit in CUDA_HOME",
            file=sys.stderr,
        )
        return 2
    device = "emulated" if chosen.emulated else "cuda"
    about = run.describe(device)
    # Compiled before, and not under the sanitizer.
    with tempfile.TemporaryDirectory() as folder:
        build = ["build", "--device", device, "--folder", folder]
        built = subprocess.run(
            processes.module("stage", *build), cwd=ROOT, env=processes.environment(device)
        )
        if built.returncode != 0:
            return 1
    path = run.results_folder(chosen.folder, about) / "sanitize.json"
    tools = {}
    over = time.monotonic() + chosen.seconds
    todo = chosen.tool or DEFAULT
    for i, tool in enumerate(todo):
        share = (over - time.monotonic()) / (len(todo) - i)
        tools[tool] = examine(sanitizer, tool, device, share)
        json_file.write(path, {"about": about, "tools": tools})
        print(f"{tool}: {tools[tool]['status']}, {tools[tool]['summary']}", flush=True)
    statuses = {found["status"] for found in tools.values()}
    if statuses & {outcomes.FAILED, outcomes.CRASHED}:
        return 1
    return 3 if outcomes.UNFINISHED in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
