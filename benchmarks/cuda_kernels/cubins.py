"""Compiles csrc/cuda/*.cu to machine code, and reads what each kernel of it takes."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bninv.building.cuda_toolkit import Toolkit
from bninv.building.nvcc import nvcc_command, nvcc_environment

_MAX_THREADS = 5  # EIATTR_MAX_THREADS: the attribute that holds __launch_bounds__
_SIZED_VALUE = 4  # EIFMT_SVAL: an attribute's value with its size before it


@dataclass
class Cubin:
    source: Path
    architecture: str
    path: Path
    seconds: float  # of processor time, which other work on the machine hardly changes
    kernels: list[dict[str, Any]]


def compile_cubin(toolkit: Toolkit, source: Path, architecture: str, folder: Path) -> Cubin:
    """The machine code, and what ptxas says of each kernel in it."""
    output = folder / f"{source.stem}_{architecture}.cubin"
    command = nvcc_command(toolkit, source, output, [architecture], kind="cubin")
    messages = folder / "messages"
    with messages.open("w") as stderr:
        started = subprocess.Popen(
            [*command, "-Xptxas=-v"], stderr=stderr, env=nvcc_environment(folder, os.environ)
        )
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    text = messages.read_text()
    if started.returncode:
        raise SystemExit(text)
    threads = read_threads(output.read_bytes())
    kernels = read_resources(text)
    for kernel in kernels:
        kernel["threads"] = threads[kernel["mangled"]]
    return Cubin(source, architecture, output, usage.ru_utime + usage.ru_stime, kernels)


def read_resources(text: str) -> list[dict[str, Any]]:
    """One entry for each kernel, from the text that -Xptxas=-v makes ptxas print."""
    rows = []
    for part in re.split(r"Compiling entry function ", text)[1:]:

        def amount(pattern: str, part: str = part) -> int:
            match = re.search(pattern, part)
            return int(match.group(1)) if match else 0

        rows.append(
            {
                "mangled": part.split("'")[1],
                "registers": amount(r"Used (\d+) registers"),
                "spill_stores": amount(r"(\d+) bytes spill stores"),
                "spill_loads": amount(r"(\d+) bytes spill loads"),
                "stack": amount(r"(\d+) bytes stack frame"),
                "static_shared": amount(r"(\d+) bytes smem"),
            }
        )
    return rows


def read_threads(cubin: bytes) -> dict[str, int]:
    """The launch bound of each kernel: ptxas prints none, the sections .nv.info.KERNEL have it."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    count, names_at = struct.unpack_from("<HH", cubin, 0x3C)
    # Of an ELF section header: the name, then its place and size in the file.
    sections = [struct.unpack_from("<I20xQQ", cubin, table + 64 * i) for i in range(count)]
    names = sections[names_at][1]
    found = {}
    for name, offset, size in sections:
        start = names + name
        text = cubin[start : cubin.index(b"\0", start)].decode()
        if not text.startswith(".nv.info."):
            continue
        at = offset
        while at < offset + size:
            form, attribute, length = struct.unpack_from("<BBH", cubin, at)
            if attribute == _MAX_THREADS:
                x, y, z = struct.unpack_from("<III", cubin, at + 4)
                found[text.removeprefix(".nv.info.")] = x * y * z
            at += 4 + (length if form == _SIZED_VALUE else 0)
    return found
