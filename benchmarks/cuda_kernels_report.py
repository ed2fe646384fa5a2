"""cuda_kernels.py's figures as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tile_loops
from gpu_limits import H200
from kernel_loops import CHANNELS, CLASSES, INNER, TENSOR_BYTES

SHOWN = ("8.0", "8.6", "9.0")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown; the first column is a name."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def resource_table(kernels: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in kernels:
        on, dynamic = row["on"], row["dynamic_shared"]
        static = max(entry["static_shared"] for entry in on.values())
        shown = [on[architecture] for architecture in SHOWN]
        occupancy = {a: entry["occupancy"] for a, entry in on.items()}
        least = min(occupancy, key=occupancy.__getitem__)
        spills = [
            f"{entry['spill_stores']} on {a}" for a, entry in on.items() if entry["spill_stores"]
        ]
        rows.append(
            (
                f"`{row['kernel']}`",
                row["threads"],
                ", ".join(str(entry["registers"]) for entry in shown),
                max(entry["registers"] for entry in on.values()),
                static + dynamic if dynamic is not None else static,
                ", ".join(str(entry["blocks"]) for entry in shown),
                ", ".join(f"{entry['occupancy']:.0%}" for entry in shown),
                f"{occupancy[least]:.0%} on {least}",
                ", ".join(spills) or 0,
            )
        )
    header = ("kernel", "threads", "registers", "most", "shared", "blocks", "occupancy", "least")
    return table((*header, "spilled"), rows)


def compile_table(times: Sequence[dict[str, Any]]) -> str:
    rows = [(f"`{row['file']}`", row["seconds"], row["slowest"]) for row in times]
    return table(("file", "all architectures", "slowest"), rows)


def tile_table(tiles: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"`{row['kernel']}`",
            row["step"],
            *(row["classes"][kind] for kind in tile_loops.CLASSES),
            f"{row['fma_share']:.0%}",
            row.get("segment_end", ""),
            row.get("shared_cycles", ""),
            row.get("shared_share", ""),
        )
        for row in tiles
    ]
    header = ("kernel", "all", *tile_loops.CLASSES)
    return table((*header, "fma share", "segment's end", "shared cycles", "fma / shared"), rows)


def class_table(loops: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in loops:
        counts = row["classes"]
        length = row["loop"]
        if row["kernel"].endswith(", any>"):
            length = f"{row['loop_shortest']}-{length}"
        rows.append(
            (
                f"`{row['kernel']}`",
                row["unroll"],
                length,
                *(counts[kind] for kind in (*CLASSES, "narrow")),
            )
        )
    return table(("kernel", "vectors", "all", *CLASSES, "narrow"), rows)


def estimate_table(loops: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in loops:
        share = row["warp_instructions_needed"] / row["warp_instructions_possible"]
        rows.append(
            (
                f"`{row['kernel']}`",
                row["bytes_per_16_stored"],
                row["per_16_bytes_stored"],
                row["per_16_bytes_of_traffic"],
                f"{row['prologue']}, {row['amortised_prologue']}",
                f"{row['grid_blocks']} x {row['vectors_per_thread']}",
                row["waves"],
                f"{row['warp_instructions_needed'] / 1e9:.0f}, {share:.0%}",
                f"{row['limit']}, {row['limit_ratio']}",
                f"{row['bytes_in_flight'] / 1e3:.0f} kB, {row['in_flight_ratio']}",
                row["steady_fraction"],
                f"**{row['expected_fraction']}**",
            )
        )
    header = (
        *("kernel", "bytes moved", "instr. per 16 B stored", "per 16 B moved", "prologue"),
        *("grid", "waves", "10^9 warp instr./s", "slowest pipe", "in flight"),
        *("steady", "expected"),
    )
    return table(header, rows)


def report(
    kernels: Sequence[dict[str, Any]],
    loops: Sequence[dict[str, Any]],
    tiles: Sequence[dict[str, Any]],
    about: dict[str, Any],
) -> str:
    needed = H200.bandwidth * H200.latency / H200.processors / 1e3
    possible = H200.processors * H200.rate("issue") / 32 * H200.clock / 1e9
    return f"""\
# CUDA kernels without a GPU

Written by `benchmarks/cuda_kernels.py` with nvcc {about["nvcc"]}. Nothing here was measured: the
tables say what the compiler made of the kernels, and what that lets one expect.

## Registers, spills, occupancy

Compiled for the architectures {", ".join(about["architectures"])}. *threads* of a block at most, by
its launch bound; *registers* of a thread, *blocks* that a multiprocessor holds and *occupancy* on
{", ".join(SHOWN)}; *most* registers and *least* occupancy on any architecture; *shared* memory and
*spilled* registers in bytes.

*shared* is static, except that of `conv2d_tile`, all dynamic. The other kernels that take dynamic
shared memory do so by their tensor's shape, which is not counted here: `batch_norm_planes` at most
24 kB, and less than 4 kB from 7 x 7 elements a channel on; `group_norm_kernel` at most 38 kB;
`layer_norm_by_block`, `softmax_by_block` and `softmax_by_tile` what they stage of a row.
Occupancy 0%: the block does not fit, and the plan gives the product another tile.

{resource_table(kernels)}

## Compile times

Seconds of one processor of the machine that wrote this, for all architectures and for the slowest.

{compile_table(about["compile_times"])}

## Convolutions' main loops on compute capability 9.0

Instructions of one thread in one step of the tiled product, which multiplies 16 terms (8 of
128x64), in the middle of a segment. *segment's end*: what a step has more that ends a segment.
*shared cycles*: those in which a warp's accesses occupy shared memory, by the layout and not by the
machine code: 128 bytes a cycle, of accesses in pairs 256 (an engineer of NVIDIA's states the rule
for compute capability 7.x in its developers' forum; for later ones it is assumed). *fma / shared*:
cycles in which the schedulers issue the fmas by those; below 1, shared memory would be the limit if
fmas were all. `conv2d_direct`: a step is a tap, of four pixels and four channels.

{tile_table(tiles)}

## batch_norm's main loops on compute capability 9.0

Instructions of one thread in one pass through the main loop, which stores `vectors` vectors of 16
bytes; its conditional parts are counted as taken. Kernels named `any` choose the activation at run
time: counted is the longest way through (silu; hardswish in double precision), and `all` gives the
shortest as well.

`load` and `store` are of 16 bytes in global memory, `narrow` of fewer. `select` are minima,
comparisons and selections, `special` the reciprocals that divisions start from; `integer` holds
addresses and moves too.

{class_table(loops)}

## Expected fraction of the copy bandwidth, batch_norm

**An estimate that no GPU has confirmed**, for {CHANNELS} channels of {INNER} elements, as many
samples as give {TENSOR_BYTES / 1e6:.0f} MB, on an H200: {H200.processors} multiprocessors at
{H200.clock / 1e9} GHz (boost) and {H200.bandwidth / 1e12} TB/s, by its data sheet. A copy reaches
about nine tenths of that, so the ratios are on the safe side by a tenth.

- *bytes moved*: through the memory for each 16 bytes stored: input, residual, output.
- *prologue*: instructions before the loop, on the longest way and with every inner loop once; then
  the same for each vector, under the grid that the launcher chooses (*grid*: blocks x vectors of
  each thread).
- *waves*: blocks by those that the GPU holds at a time.
- *warp instructions a second* at the full bandwidth, prologue included, and their share of the
  {possible:.0f} that {H200.processors} x 4 schedulers issue.
- *slowest pipe*: what is used up first, and how many times the bandwidth it would allow. `issue`:
  the schedulers; `alu`: 64 lanes for integers, comparisons and conversions; `fp64`: 64 lanes;
  `special`: 16 lanes; `memory`: 128 bytes a cycle to the first-level cache.
- *in flight*: loads before the first one is waited for x 16 bytes x resident threads of a
  multiprocessor; and by how much that exceeds bandwidth x latency = {needed:.0f} kB, at
  {H200.latency * 1e9:.0f} ns under load (assumed), as if all traffic were loads.
- *steady*: the least of 1 and these two ratios. *expected*: the same with a last wave of fewer
  blocks, which keeps fewer bytes in flight.

{estimate_table(loops)}
"""
