"""Registers, spills and occupancy of every CUDA kernel on every architecture; needs no GPU.

    python -m benchmarks.cuda_kernels

Writes results/cuda_kernels.json and .md. Exit status 1: a kernel spills that must not.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.common import json_file
from benchmarks.common.places import RESULTS
from benchmarks.cuda_kernels import report as cuda_kernels_report
from benchmarks.cuda_kernels.cubins import Cubin, compile_cubin
from benchmarks.cuda_kernels.gpu_limits import MULTIPROCESSORS
from benchmarks.cuda_kernels.kernel_names import demangle, dynamic_shared, is_main, short_name
from bninv.building.cuda_choice import ARCHITECTURES
from bninv.building.cuda_toolkit import find_toolkits, toolkit_candidates
from bninv.building.recipe import source_dir


def kernel_rows(cubins: list[Cubin], names: dict[str, str]) -> list[dict[str, Any]]:
    """One row a kernel, with what differs among architectures in an entry of each."""
    rows: dict[str, dict[str, Any]] = {}
    for cubin in cubins:
        limits = MULTIPROCESSORS[cubin.architecture]
        for found in cubin.kernels:
            name = names[found["mangled"]]
            dynamic = dynamic_shared(name)
            row = rows.setdefault(
                name,
                {
                    "kernel": name,
                    "main": is_main(name),
                    "threads": found["threads"],
                    "dynamic_shared": dynamic,
                    "on": {},
                },
            )
            shared = found["static_shared"] + (dynamic or 0)
            blocks = limits.resident_blocks(found["threads"], found["registers"], shared)
            row["on"][cubin.architecture] = {
                **{k: v for k, v in found.items() if k not in ("mangled", "threads")},
                "blocks": blocks,
                "occupancy": round(blocks * found["threads"] / limits.threads, 3),
            }
    return sorted(rows.values(), key=lambda row: row["kernel"])


def compile_times(cubins: list[Cubin]) -> list[dict[str, Any]]:
    """Processor seconds of each file: of all architectures together, and of the slowest."""
    by_file: dict[str, list[float]] = {}
    for cubin in cubins:
        by_file.setdefault(cubin.source.name, []).append(cubin.seconds)
    return [
        {"file": name, "seconds": round(sum(times), 1), "slowest": round(max(times), 1)}
        for name, times in sorted(by_file.items())
    ]


def main(
    write_results: Annotated[bool, typer.Option(help="write results/cuda_kernels.*")] = True,
) -> None:
    console = Console()
    toolkits = find_toolkits(toolkit_candidates())
    if not toolkits:
        raise SystemExit("no CUDA toolkit was found: pip install 'bninv[nvcc]'")
    toolkit = toolkits[0]
    sources = sorted(source_dir().glob("cuda/*.cu"))
    jobs = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with tempfile.TemporaryDirectory(prefix="bninv-kernels-") as folder:

        def compile_one(job: tuple[Path, str]) -> Cubin:
            # Files of one name per source are written meanwhile: a folder for each job.
            own = Path(folder) / f"{job[0].stem}-{job[1]}"
            own.mkdir()
            return compile_cubin(toolkit, *job, own)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            cubins = list(pool.map(compile_one, jobs))
    names = demangle(sorted({k["mangled"] for cubin in cubins for k in cubin.kernels}))
    names = {mangled: short_name(name) for mangled, name in names.items()}
    kernels = kernel_rows(cubins, names)
    about = {
        "nvcc": toolkit.nvcc_version(),
        "architectures": list(ARCHITECTURES),
        "compile_times": compile_times(cubins),
    }
    report = cuda_kernels_report.report(kernels, about)
    if write_results:
        json_file.write(RESULTS / "cuda_kernels.json", {"about": about, "kernels": kernels})
        (RESULTS / "cuda_kernels.md").write_text(report)
        console.print(f"written to {RESULTS / 'cuda_kernels.md'} and .json")
    else:
        print(report)
    spilling = [
        (row["kernel"], architecture, on)
        for row in kernels
        for architecture, on in row["on"].items()
        if row["main"] and (on["spill_stores"] or on["spill_loads"])
    ]
    # Kernels bound by memory do not notice a few bytes, which ptxas at times spills unasked.
    bad = [s for s in spilling if s[0].startswith("conv2d") or s[2]["spill_stores"] > 32]
    for kernel, architecture, on in spilling:
        console.print(
            f"spills {on['spill_stores']} bytes on {architecture}: {kernel}", markup=False
        )
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
