"""The main loops of convolutions in machine code: one step of them, instruction by instruction.

Of conv2d_tile it is the one with the block's barrier and the most fmas. One path through it is
followed, a step in the middle of a segment: the one that ends no segment, starts and lands all
copies, and is otherwise the shortest. So of the loop that finds the next tap no repetition is
counted, which most steps have not. A second path, which ends a segment, gives what that adds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gemm_plan
from sass import Block, Instruction, Kernel

CLASSES = ("fma", "shared", "copy", "integer", "control")
# Terms between two reads of rows: Accumulators::kTerms of csrc/cuda/gemm.cuh.
_TERMS_AT_ONCE = {8: 2, 4: 4}


def classify(i: Instruction) -> str:
    if i.name in ("FFMA", "FFMA2"):
        return "fma"
    if i.name in ("LDS", "STS"):
        return "shared"
    if i.name in ("LDGSTS", "LDG", "LDGDEPBAR", "DEPBAR"):
        return "copy"
    if i.name in ("BRA", "BSSY", "BSYNC", "BAR", "NOP", "WARPSYNC", "EXIT", "CALL", "RET"):
        return "control"
    return "integer"


def _step(block: Block) -> tuple[int, ...]:
    count = Counter(i.name for i in block.instructions)
    moved = count["LDGSTS"] + count["LDG"] + count["STS"] + count["FFMA"]
    return (-count["FADD"], -count["CALL"], moved, -len(block.instructions))


def _segment_end(block: Block) -> tuple[int, ...]:
    count = Counter(i.name for i in block.instructions)
    moved = count["LDGSTS"] + count["LDG"] + count["STS"] + count["FFMA"]
    return (count["FADD"], -count["STG"], -count["CALL"], moved, -len(block.instructions))


def _with_fmas(block: Block) -> tuple[int, ...]:
    return (sum(i.name == "FFMA" for i in block.instructions), -len(block.instructions))


def _paths(
    kernel: Kernel, weights: Sequence[Callable[[Block], tuple[int, ...]]]
) -> list[list[Instruction]]:
    found = []
    for header, members in kernel.loops().items():
        names = Counter(i.name for n in members for i in kernel.blocks[n].instructions)
        if names["BAR"] and names["FFMA"]:
            found.append((names["FFMA"], header, members))
    _, header, members = max(found, key=lambda entry: entry[0])
    ends = {latch for latch, h in kernel.back_edges if h == header}
    paths = [kernel.best_path(header, ends, members, weight) for weight in weights]
    return [path for path in paths if path is not None]


def shared_cycles(tile: gemm_plan.Tile, half: bool) -> float:
    """Cycles in which a warp's accesses in one step occupy a multiprocessor's shared memory.

    It delivers 128 bytes, a register of each thread, in a cycle; where threads t and t ^ 1, or t
    and t ^ 2, read the same address in all of a warp, two registers. Rows and panel are read so.
    """
    rows = tile.thread_rows * tile.depth / 2
    panel = tile.thread_columns * tile.depth / 2
    elements = (tile.rows + tile.columns) * tile.depth / tile.threads
    # Half types are written, read and written again, widened.
    copies = elements * (0.5 + 0.5 + 1 if half else 1)
    return rows + panel + copies


def _depthwise_row(name: str, kernel: Kernel) -> dict[str, Any]:
    """The loop over a row's taps, each for four pixels of four channels; what a row has more."""
    loops = []
    for header, members in kernel.loops().items():
        ends = {latch for latch, h in kernel.back_edges if h == header}
        path = kernel.best_path(header, ends, members, _with_fmas)
        if path is not None and sum(i.name == "FFMA" for i in path) == 16:
            loops.append((len(members), len(path), path))
    (_, _, tap), (_, row, _) = sorted(loops, key=lambda loop: loop[:2])
    counts = Counter(classify(i) for i in tap)
    return {
        "kernel": name,
        "step": len(tap),
        "classes": {kind: counts[kind] for kind in CLASSES},
        "fma_share": round(16 / len(tap), 3),
        "row": row - len(tap),
    }


def loop_row(name: str, kernel: Kernel) -> dict[str, Any] | None:
    if re.fullmatch(r"conv2d_direct<(float|half), 4, depthwise>", name):
        return _depthwise_row(name, kernel)
    match = re.fullmatch(r"conv2d_tile<(float|half), (\w+), (points|windows|elements)>", name)
    if match is None:
        return None
    tile = next(t for t in gemm_plan.tiles() if t.name == match.group(2))
    step, ending = _paths(kernel, (_step, _segment_end))
    counts = Counter(classify(i) for i in step)
    fma = tile.thread_rows * tile.thread_columns * tile.depth
    if counts["fma"] != fma:
        raise SystemExit(f"{name}: {counts['fma']} fmas in a step of {fma}")
    shared = shared_cycles(tile, match.group(1) == "half")
    groups = tile.depth / _TERMS_AT_ONCE[tile.thread_rows]
    return {
        "kernel": name,
        "step": len(step),
        "classes": {kind: counts[kind] for kind in CLASSES},
        "fma_share": round(fma / len(step), 3),
        "segment_end": len(ending) - len(step),
        "shared_cycles": shared,
        # Of the four schedulers' issue slots in the cycles that shared memory takes.
        "shared_share": round(fma / 4 / shared, 3),
        "groups": groups,
        "depth": tile.depth,
    }
