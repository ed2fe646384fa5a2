"""Stages "tensor-facts" and "tensor-speed": the tensor cores, which no operator uses yet.

tensor-facts asks whether instructions give the bits of csrc/tensor_block.h's model, output by
output, on operands drawn to be hard (tensor_facts/draws.cuh), at every position of a tile, in any
order of the terms. Some of it is computed once more by NumPy. tensor-speed times the same
instructions, with nothing beside.

Without a GPU the model in C++ is held against NumPy.
"""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.gpu import tensor_program
from tests.gpu.device import Device
from tests.gpu.record import Row
from tests.support import reference_tensor as reference
from tests.support import tensor_cases

MMA = (
    *("m16n8k16_f16", "m16n8k16_bf16", "m16n8k8_tf32"),
    *("m16n8k8_f16", "m16n8k8_bf16", "m16n8k4_tf32"),
)
WGMMA = ("wgmma_k16_f16", "wgmma_k16_bf16", "wgmma_k8_tf32")  # A out of shared memory
WGMMA_REGISTERS = tuple(f"{name}_registers" for name in WGMMA)
ROWS, COLUMNS = 16, 8
# What may not differ, each with its words. "halves" may: two blocks are not one.
ASKED = {
    "model": "the model",
    "moved": "itself elsewhere in a tile",
    "permuted": "itself with the terms of a block in another order",
    "halves_model": "the model of two instructions",
    "segments": "the model of 128 terms",
    "mma": "mma.sync",
    "numpy": "NumPy",
}


def dtype_of(instruction: str) -> str:
    return next(dtype for dtype in ("bf16", "f16", "tf32") if f"_{dtype}" in instruction)


def call(program: Path, deadline: float, *arguments: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{' '.join(arguments[:2])} was stopped") from None
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tiles(path: Path, k: int, count: int) -> Iterator[tuple[np.ndarray, ...]]:
    """A, B, C and D of `count` tiles, category by category."""
    shapes = ((ROWS, k), (k, COLUMNS), (ROWS, COLUMNS), (ROWS, COLUMNS))
    sizes = [count * rows * columns for rows, columns in shapes]
    words = np.fromfile(path, np.uint32).reshape(-1, sum(sizes))
    for category in words:
        parts = np.split(category, np.cumsum(sizes)[:-1])
        yield tuple(p.reshape(count, *shape) for p, shape in zip(parts, shapes, strict=True))


def by_numpy(path: Path, instruction: str, row: dict[str, Any]) -> dict[str, int]:
    dtype, rule = dtype_of(instruction), reference.CLASSES[row["class"]]
    compared = differed = 0
    for a, b, c, d in tiles(path, row["k"], row["sample_tiles"]):
        left, right = tensor_cases.dots(a, b)
        start = c.reshape(-1).view(np.float32)
        got = reference.multiply_add(dtype, left, right, start, rule)
        compared += d.size
        differed += int((~reference.same(got, d.reshape(-1).view(np.float32))).sum())
    return {"of": compared, "differ": differed}


def diagnosis(row: dict[str, Any]) -> str:
    """What was wrong, and which other rule would be right."""
    wrong = {key: row[key]["differ"] for key in ASKED if row.get(key, {}).get("differ")}
    if not wrong:
        return ""
    if row["categories"].get("integers"):
        return "small integers are wrong: operands are not where they should be, no statement"
    parts = [f"{count} of {row[key]['of']} are not {ASKED[key]}" for key, count in wrong.items()]
    if "model" in wrong:
        where = [f"{name} {count}" for name, count in row["categories"].items() if count]
        rules = sorted(row["rules"].items(), key=lambda rule: rule[1])
        nearest = ", ".join(f"{name} {count}" for name, count in rules[:3])
        parts.append(f"wrong in {', '.join(where)}; wrong by other rules: {nearest}")
    return "; ".join(parts)


def facts(find: Callable[[], Path], deadline: float, instruction: str) -> Row:
    try:
        program = find()
    except tensor_program.NoProgramError as error:
        return {"ok": True, "left_out": str(error)}
    with tempfile.TemporaryDirectory(prefix="bninv-tensor-") as folder:
        samples = Path(folder) / "samples"
        row = call(program, deadline, "facts", instruction, str(samples))
        row["numpy"] = by_numpy(samples, instruction, row)
    first = diagnosis(row)
    return {"ok": not first, **row, "first": first}


def speed(find: Callable[[], Path], deadline: float, instruction: str) -> Row:
    try:
        program = find()
    except tensor_program.NoProgramError as error:
        return {"ok": True, "left_out": str(error)}
    row = call(program, deadline, "speed", instruction)
    differ = row.get("model", {}).get("differ", 0)
    return {"ok": not differ, **row, "first": f"{differ} results are wrong" if differ else ""}


def on_host(dtype: str) -> Row:
    """The model in C++ against NumPy, both classes, every kind of operands."""
    compared, wrong = 0, []
    with tempfile.TemporaryDirectory(prefix="bninv-tensor-") as folder:
        model = tensor_cases.compile_model(Path(folder))
        for i, kind in enumerate(tensor_cases.KINDS):
            draw = np.random.default_rng(i)
            a, b, c = kind(dtype, draw, reference.GROUP[dtype])
            for name, rule in reference.CLASSES.items():
                got = model(dtype, a, b, c, name).view(np.float32)
                expected = reference.multiply_add(dtype, a, b, c.view(np.float32), rule)
                differ = int((~reference.same(got, expected)).sum())
                compared += got.size
                wrong += [f"{kind.__name__}, class {name}: {differ}"] if differ else []
    return {"ok": not wrong, "compared": compared, "first": ", ".join(wrong)}


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    if device.name == "emulated":
        return {
            f"{dtype}, C++ against NumPy": functools.partial(on_host, dtype)
            for dtype in tensor_cases.DTYPES
        }
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    # Compiled by the first row, if it must be, which then counts into that row's time.
    find = functools.partial(tensor_program.find, capability)
    wgmma = WGMMA if capability == "9.0" else ()
    if variant == "speed":
        return {name: functools.partial(speed, find, deadline, name) for name in (*MMA, *wgmma)}
    names = (*MMA, *wgmma, *(WGMMA_REGISTERS if wgmma else ()))
    return {name: functools.partial(facts, find, deadline, name) for name in names}
