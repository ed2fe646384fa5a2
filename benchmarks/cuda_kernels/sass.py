"""Reads a GPU's machine code."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


def find_nvdisasm(toolkit: Path) -> Path:
    """The disassembler. The toolkit's wheels lack it; triton, which torch requires, has it."""
    candidates = [toolkit / "bin" / "nvdisasm"]
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidates.append(Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm")
    on_path = shutil.which("nvdisasm")
    candidates += [Path(on_path)] if on_path else []
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError("nvdisasm: neither in the CUDA toolkit nor in triton nor on PATH")


def disassemble(cubin: Path, toolkit: Path) -> str:
    # What it warns of on stderr, the layout of a cubin newer than itself, does no harm here.
    command = [str(find_nvdisasm(toolkit)), "-c", str(cubin)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Kernel:
    """A kernel without the subroutines (rare cases of divisions) that follow it in its section."""

    name: str  # mangled
    instructions: list[str] = field(default_factory=list)  # their opcodes


def parse(text: str) -> list[Kernel]:
    """The kernels of nvdisasm's output."""
    kernels: list[Kernel] = []
    inside = False
    for line in text.splitlines():
        if match := re.match(r"\.text\.(\S+):", line):
            kernels.append(Kernel(match.group(1)))
            inside = True
        elif line.startswith("$"):
            inside = False
        elif inside and (
            match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+)?\s*([A-Z][\w.]*)", line)
        ):
            kernels[-1].instructions.append(match.group(1))
    return kernels
