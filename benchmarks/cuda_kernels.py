"""Registers, spills and occupancy of every CUDA kernel, and batch_norm's main loops, instruction by
instruction: compiled here for every architecture, no GPU needed.

    python benchmarks/cuda_kernels.py

Writes results/cuda_kernels.json and .md. Exit status 1: a kernel spills that must not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import cuda_kernels_report
import kernel_loops
import sass
import typer
from gpu_limits import MULTIPROCESSORS
from rich.console import Console

from bninv._build import source_dir
from bninv._cuda_build import ARCHITECTURES
from bninv._cuda_toolkit import Toolkit, find_toolkits, toolkit_candidates
from bninv._nvcc import nvcc_command, nvcc_environment

RESULTS = Path(__file__).parent / "results"
DISASSEMBLED = "9.0"
BATCH_NORM = ("batch_norm_channels_fastest", "batch_norm_planes")
ELEMENT_BYTES = {"float": 4, "double": 8, "half": 2, "bfloat16": 2}


# ---- Names ---------------------------------------------------------------------------------------


def demangle(names: Sequence[str]) -> dict[str, str]:
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True
    )
    return dict(zip(names, done.stdout.splitlines(), strict=True))


def short_name(demangled: str) -> str:
    """`batch_norm_planes<half, 8, residual, relu>`: without namespaces, arguments and types."""
    name = re.sub(r"\(anonymous namespace\)::|\b\w+::", "", demangled).removeprefix("void ")
    name = re.sub(r"\((Epilogue)\)(\d)", r"\1\2", name).split("(")[0]
    for spelled, plain in (("Half", "half"), ("BFloat16", "bfloat16")):
        name = re.sub(rf"\b{spelled}\b", plain, name)
    name = name.replace(", true", ", residual").replace(", false", "")
    for number, epilogue in enumerate(("none", "relu", "any")):
        name = name.replace(f"Epilogue{number}", epilogue)
    return name


def is_main(name: str) -> bool:
    """Kernels that must not spill: all but those of unaligned tensors and of other activations."""
    return not re.search(r"<\w+, 1,|, any>", name)


# ---- Compiling -----------------------------------------------------------------------------------


def compile_cubin(
    toolkit: Toolkit, source: Path, architecture: str, folder: Path
) -> tuple[Path, list[dict[str, Any]]]:
    """The machine code, and what ptxas says of each kernel in it."""
    output = folder / f"{source.stem}_{architecture}.cubin"
    command = nvcc_command(toolkit, source, output, [architecture], kind="cubin")
    done = subprocess.run(
        [*command, "-Xptxas=-v"],
        check=False,
        capture_output=True,
        text=True,
        env=nvcc_environment(folder, os.environ),
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return output, list(read_resources(done.stderr, architecture))


def read_resources(text: str, architecture: str) -> list[dict[str, Any]]:
    """One entry for each kernel, from the text that -Xptxas=-v makes ptxas print."""
    rows = []
    for part in re.split(r"Compiling entry function ", text)[1:]:

        def amount(pattern: str, part: str = part) -> int:
            match = re.search(pattern, part)
            return int(match.group(1)) if match else 0

        rows.append(
            {
                "mangled": part.split("'")[1],
                "architecture": architecture,
                "registers": amount(r"Used (\d+) registers"),
                "spill_stores": amount(r"(\d+) bytes spill stores"),
                "spill_loads": amount(r"(\d+) bytes spill loads"),
                "stack": amount(r"(\d+) bytes stack frame"),
                "shared": amount(r"(\d+) bytes smem"),
            }
        )
    return rows


def with_occupancy(row: dict[str, Any], name: str) -> dict[str, Any]:
    limits = MULTIPROCESSORS[row["architecture"]]
    blocks = limits.resident_blocks(kernel_loops.THREADS, row["registers"], row["shared"])
    return {
        "kernel": name,
        **{key: value for key, value in row.items() if key != "mangled"},
        "blocks": blocks,
        "occupancy": round(blocks * kernel_loops.THREADS / limits.threads, 3),
    }


# ---- Main loops ----------------------------------------------------------------------------------


def loop_rows(text: str, names: dict[str, str], registers: dict[str, int]) -> list[dict[str, Any]]:
    """What kernel_loops.py says of each vectorised kernel."""
    rows = []
    blocks = kernel_loops.blocks_wanted(source_dir() / "cuda" / "batch_norm.cu")
    for kernel in sass.parse(text):
        name = names[kernel.name]
        match = re.fullmatch(r"(\w+)<(\w+), (\d), (residual, )?\w+>", name)
        if match is None or match.group(1) not in BATCH_NORM or match.group(3) == "1":
            continue
        loop = kernel_loops.main_loop(kernel)
        if loop is None:
            raise SystemExit(f"{name}: no loop with 16-byte loads")
        figures = kernel_loops.expectation(
            loop,
            planes=match.group(1) == "batch_norm_planes",
            residual=match.group(4) is not None,
            element_bytes=ELEMENT_BYTES[match.group(2)],
            registers=registers[name],
            blocks=blocks,
        )
        rows.append({"kernel": name, **figures})
    return sorted(rows, key=lambda row: row["kernel"])


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
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            compiled = list(pool.map(lambda job: compile_cubin(toolkit, *job, Path(folder)), jobs))
        texts = {
            source.stem: sass.disassemble(cubin, toolkit.home)
            for (source, architecture), (cubin, _) in zip(jobs, compiled, strict=True)
            if architecture == DISASSEMBLED
        }
    found = [row for _, rows in compiled for row in rows]
    names = {m: short_name(n) for m, n in demangle([r["mangled"] for r in found]).items()}
    resources = [with_occupancy(row, names[row["mangled"]]) for row in found]
    registers = {
        r["kernel"]: r["registers"] for r in resources if r["architecture"] == DISASSEMBLED
    }
    loops = loop_rows(texts["batch_norm"], names, registers)
    about = {"nvcc": toolkit.nvcc_version(), "architectures": list(ARCHITECTURES)}
    report = cuda_kernels_report.report(resources, loops, about)
    if write_results:
        parts = [f'"about": {json.dumps(about)}']
        for key, rows in (("kernels", resources), ("loops", loops)):
            lines = ",\n".join(f" {json.dumps(row)}" for row in rows)
            parts.append(f'"{key}": [\n{lines}\n]')
        (RESULTS / "cuda_kernels.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")
        (RESULTS / "cuda_kernels.md").write_text(report)
        console.print(f"written to {RESULTS / 'cuda_kernels.md'} and .json")
    else:
        print(report)
    spilling = [r for r in resources if is_main(r["kernel"]) and r["spill_stores"]]
    for row in spilling:
        console.print(f"spills on {row['architecture']}: {row['kernel']}", markup=False)
    raise SystemExit(1 if spilling else 0)


if __name__ == "__main__":
    typer.run(main)
