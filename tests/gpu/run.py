"""Proves and measures everything on this machine's GPU, in as many seconds as it is given.

    python3 -m tests.gpu.run --seconds 420        from the root of the project

Proofs come first, side by side; the benchmarks share what they leave. A stage whose result is known
for these very sources is not run again (--again: it is); one that was stopped goes on. --only STAGE
runs that one; --report FOLDER rebuilds the report of FOLDER.

Needs torch with CUDA, torchvision, timm, pytest and NumPy; no network. The operators that
`make gpu-library` built are used; without them, ninja and a CUDA toolkit are needed. What needs
more is left out where it is missing, and the report says so. Results are kept in
benchmarks/results/GPU, or below --folder; --out DIR gets the report and all results as one archive,
also when this is stopped. Exit status: 0 all passed; 1 a result was wrong; 2 a wrong call, or no
GPU; 3 nothing was wrong, but something was not reached: run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import json_file
from benchmarks.common.places import RESULTS
from tests.gpu import processes, report, schedule
from tests.gpu.outcomes import exit_status
from tests.gpu.stages import STAGES, Stage
from tests.support.places import ROOT


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [stage.name for stage in STAGES]
    parser.add_argument(
        "--only", action="append", choices=names, help="this stage; may be repeated"
    )
    parser.add_argument("--again", action="store_true", help="also what is known already")
    parser.add_argument("--seconds", type=float, default=520, help="for all of it (default: 520)")
    parser.add_argument("--folder", type=Path, help="keep results below this folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy report and results there")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="only rebuild the report of these results"
    )
    parser.add_argument(
        "--emulated", action="store_true", help="the kernels emulated, to test this command"
    )
    return parser.parse_args(arguments)


def describe(device: str) -> dict[str, Any]:
    """The device and its software, asked in a process of its own."""
    done = subprocess.run(
        processes.module("stage", "describe", "--device", device),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=processes.environment(device),
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"bninv: no GPU that torch can use ({sys.executable}): {last}", file=sys.stderr)
        sys.exit(2)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def results_folder(below: Path | None, about: dict[str, Any]) -> Path:
    """What an emulation gives is no measurement: it never lands among the results."""
    if below is None and about["slug"] == "emulated":
        below = Path(tempfile.mkdtemp(prefix="bninv-gpu-"))
    folder: Path = (below or RESULTS).resolve() / about["slug"]
    return folder


def job(stage: Stage, device: str, folder: Path, about: dict[str, Any]) -> schedule.Job:
    digest = schedule.digest(stage.sources, about)

    def command(seconds: float) -> list[str]:
        if stage.script:
            # It only asks between two rows whether its time is over.
            values = {"folder": folder, "seconds": round(0.85 * seconds)}
            return processes.python(
                "-m", stage.script, *(a.format(**values) for a in stage.arguments[device])
            )
        options = ["--device", device, "--folder", str(folder), "--digest", digest]
        return processes.module("stage", stage.name, *options, "--seconds", f"{seconds:.1f}")

    return schedule.Job(stage, command, digest)


def write_report(folder: Path) -> Path:
    documents = {path.stem: json_file.read(path) for path in sorted(folder.glob("*.json"))}
    path = folder / "report.md"
    path.write_text(report.build(documents, sorted(p.name for p in folder.glob("*.png"))))
    return path


def take_along(folder: Path, out: Path) -> None:
    """Two files: the report, and everything."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "report.md", out / "report.md")
    aside = out / ".results.tar.gz"
    with tarfile.open(aside, "w:gz") as archive:
        archive.add(folder, folder.name)
    aside.replace(out / "results.tar.gz")


def main(arguments: list[str] | None = None) -> int:
    start = time.monotonic()
    chosen = parse(arguments)
    if chosen.report:
        print(write_report(chosen.report))
        return 0
    # Whoever ends this command also ends the stage that is running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    device = "emulated" if chosen.emulated else "cuda"
    if chosen.emulated:
        from bninv.building import cache

        # The emulation keeps what it compiled only in a folder that is named.
        os.environ.setdefault("BNINV_CACHE_DIR", str(cache.cache_dir()))
    about = describe(device)
    folder = results_folder(chosen.folder, about)
    stages = [
        stage
        for stage in STAGES
        if stage.runs_on(device) and (not chosen.only or stage.name in chosen.only)
    ]
    if any(stage.needs_library for stage in stages):
        stages = [s for s in STAGES if s.prepares and s not in stages] + stages
    known = json_file.read(folder / "run.json")
    json_file.write(folder / "run.json", {"about": about, "stages": known.get("stages", {})})
    jobs = [job(stage, device, folder, about) for stage in stages]
    try:
        seconds = chosen.seconds - (time.monotonic() - start)
        run = schedule.Run(jobs, folder, device, again=chosen.again, seconds=seconds)
        outcomes = run.all()
    finally:
        print(write_report(folder))
        if chosen.out:
            take_along(folder, chosen.out)
    return exit_status(stages, outcomes)


if __name__ == "__main__":
    sys.exit(main())
