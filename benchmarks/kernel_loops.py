"""batch_norm's main loops in machine code for compute capability 9.0, and what to expect of them.

A main loop is the innermost one with the most 16-byte loads. One path through it is followed: the
one with the most accesses to memory, without the subroutines for rare operands of divisions, and of
several such paths the longest. Where the activation is chosen at run time, that is silu (hardswish
in double precision); the shortest path, without an activation, is given as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_limits import H200, MULTIPROCESSORS, WARP
from sass import Block, Instruction, Kernel

THREADS = 256
TENSOR_BYTES = 64e6
CHANNELS, INNER = 256, 56 * 56  # a BatchNorm of ResNet-50, repeated to TENSOR_BYTES

CLASSES = ("load", "store", "shared", "float", "select", "convert", "special", "integer", "control")


def classify(i: Instruction) -> str:
    """One of CLASSES, or "narrow" for an access of fewer than 16 bytes to global memory."""
    if i.name in ("LDG", "STG"):
        wide = {"LDG": "load", "STG": "store"}[i.name]
        return wide if ".128" in i.opcode else "narrow"
    if i.name in ("LDS", "STS"):
        return "shared"
    if i.name in ("F2F", "F2FP", "I2F", "F2I", "I2FP") or i.opcode == "HADD2.F32":
        return "convert"
    if i.name == "MUFU":
        return "special"
    if i.name in ("FMNMX", "FSEL", "FSETP", "FCHK", "DSETP", "SEL"):
        return "select"
    if re.fullmatch(r"[FDH](ADD|MUL|FMA|SET)2?", i.name):
        return "float"
    if i.name in ("BRA", "BSSY", "BSYNC", "CALL", "RET", "EXIT", "BREAK", "WARPSYNC", "NOP", "BAR"):
        return "control"
    return "integer"


def pipe_cycles(path: Sequence[Instruction]) -> dict[str, float]:
    """Cycles of one multiprocessor for one warp's way along the path, by what it occupies."""
    lanes = Counter({"issue": 0})
    for i in path:
        kind = classify(i)
        lanes["issue"] += WARP
        if kind in ("select", "convert", "integer") and not i.name.startswith("U"):
            # IMAD goes through half of the lanes that multiply floats, beside the integer ones.
            lanes["alu"] += WARP if i.name != "IMAD" and i.opcode != "HADD2.F32" else 0
        elif i.name.startswith("D"):
            lanes["fp64"] += WARP
        elif kind == "special":
            lanes["special"] += WARP
        elif kind in ("load", "store", "narrow"):
            # Narrow ones are those of neighbouring vectors: as far apart as wide ones.
            lanes["memory"] += WARP * 16
        elif kind == "shared":
            lanes["memory"] += WARP * 4
    return {pipe: amount / H200.rate(pipe) for pipe, amount in lanes.items()}


@dataclass
class Loop:
    """The way through a main loop, and the way to it."""

    path: list[Instruction]
    shortest: int
    prologue: int

    def count(self, kind: str) -> int:
        return sum(classify(i) == kind for i in self.path)

    @property
    def loads_at_once(self) -> int:
        """16-byte loads before the first instruction that needs one of them."""
        waiting: set[int] = set()
        loads = 0
        for i in self.path:
            registers = [int(r) for r in re.findall(r"\bR(\d+)", i.operands)]
            written = 0 if i.name in ("STG", "STS", "BRA") else 1
            if waiting & set(registers[written:]):
                break
            if classify(i) == "load":
                loads += 1
                waiting |= set(range(registers[0], registers[0] + 4))
        return loads


def _weigh(sign: int) -> Any:
    def weight(block: Block) -> tuple[int, ...]:
        kinds = Counter(classify(i) for i in block.instructions)
        calls = sum(i.name == "CALL" for i in block.instructions)
        wide = kinds["load"] + kinds["store"] + kinds["narrow"]
        return (-calls, wide, sign * len(block.instructions))

    return weight


def main_loop(kernel: Kernel) -> Loop | None:
    """None: there is no loop with 16-byte loads."""
    found = []
    for header, members in kernel.loops().items():
        ends = {latch for latch, h in kernel.back_edges if h == header}
        path = kernel.best_path(header, ends, members, _weigh(1))
        short = kernel.best_path(header, ends, members, _weigh(-1))
        if path is not None and short is not None:
            loads = sum(classify(i) == "load" for i in path)
            found.append((loads, -len(members), header, path, len(short)))
    if not found or max(found)[0] == 0:
        return None
    _, _, header, path, shortest = max(found)
    members = kernel.loops()[header]
    every = set(range(len(kernel.blocks)))
    before = {n for n in every - members if header in kernel.blocks[n].successors}
    prologue = kernel.best_path(0, before, every - members, _weigh(1))
    return Loop(path, shortest, len(prologue or ()))


def blocks_wanted(source: Path) -> int:
    """The kernel's own constant: how many blocks a multiprocessor should hold."""
    match = re.search(r"constexpr int kBlocks = (\d+);", source.read_text())
    if match is None:
        raise ValueError(f"{source}: no constant kBlocks")
    return int(match.group(1))


def grid(planes: bool, element_bytes: int, unroll: int, blocks: int) -> tuple[int, float]:
    """Blocks, and vectors for each thread, of a tensor of TENSOR_BYTES: the formulas of
    csrc/cuda/batch_norm.cu."""
    lanes = 16 // element_bytes
    outer = round(TENSOR_BYTES / (CHANNELS * INNER * element_bytes))
    vectors = outer * CHANNELS * INNER // lanes
    wanted = H200.processors * blocks
    if planes:
        chunks = -(-CHANNELS * INNER // (THREADS * unroll * lanes))
        count = chunks * max(min(outer, wanted // chunks), 1)
    else:
        count = min(-(-vectors // (THREADS * unroll)), wanted)
    return count, vectors / (count * THREADS)


def expectation(
    loop: Loop, planes: bool, residual: bool, element_bytes: int, registers: int, blocks: int
) -> dict[str, Any]:
    """Instructions for each 16 bytes of output, and the bandwidth that the kernel should reach."""
    unroll = round(loop.count("load") / (1 + residual))
    count, vectors = grid(planes, element_bytes, unroll, blocks)
    table = 1024 if planes else 0
    resident = MULTIPROCESSORS["9.0"].resident_blocks(THREADS, registers, table)
    at_once = min(resident * H200.processors, count)
    traffic = 32 + 16 * residual
    per_vector = {pipe: cycles / unroll for pipe, cycles in pipe_cycles(loop.path).items()}
    per_vector["issue"] += loop.prologue * WARP / H200.rate("issue") / vectors
    slowest = max(per_vector, key=per_vector.__getitem__)
    pipe_ratio = traffic * WARP * H200.processors * H200.clock / H200.bandwidth
    pipe_ratio /= per_vector[slowest]
    block_bytes = loop.loads_at_once * 16 * THREADS
    block_ratio = block_bytes / (H200.bandwidth * H200.latency)
    steady = min(1, pipe_ratio, at_once * block_ratio)
    # The last wave has fewer blocks, and fewer bytes in flight.
    last = count % at_once
    time = (count - last) / steady + (last / min(steady, last * block_ratio) if last else 0)
    issue_rate = H200.processors * H200.clock * H200.rate("issue") / WARP
    instructions = len(loop.path) / unroll + loop.prologue / vectors
    return {
        "loop": len(loop.path),
        "loop_shortest": loop.shortest,
        "classes": {kind: loop.count(kind) for kind in (*CLASSES, "narrow")},
        "unroll": unroll,
        "prologue": loop.prologue,
        "grid_blocks": count,
        "vectors_per_thread": round(vectors, 1),
        "bytes_per_16_stored": traffic,
        "per_16_bytes_stored": round(len(loop.path) / unroll, 1),
        "per_16_bytes_of_traffic": round(len(loop.path) / unroll * 16 / traffic, 1),
        "amortised_prologue": round(loop.prologue / vectors, 1),
        "warp_instructions_needed": H200.bandwidth / traffic / WARP * instructions,
        "warp_instructions_possible": issue_rate,
        "limit": slowest,
        "limit_ratio": round(pipe_ratio, 2),
        "bytes_in_flight": round(block_bytes * at_once / H200.processors),
        "in_flight_ratio": round(at_once * block_ratio, 2),
        "waves": round(count / (resident * H200.processors), 2),
        "steady_fraction": round(steady, 2),
        "expected_fraction": round(count / time, 2),
    }
