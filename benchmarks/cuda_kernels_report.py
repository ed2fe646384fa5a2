"""cuda_kernels.py's figures as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_limits import H200
from kernel_loops import CHANNELS, CLASSES, INNER, TENSOR_BYTES, THREADS

_PLAIN = "9.0"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown; the first column is a name."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def resource_table(resources: Sequence[dict[str, Any]]) -> str:
    kernels: dict[str, list[dict[str, Any]]] = {}
    for row in resources:
        kernels.setdefault(row["kernel"], []).append(row)
    rows = []
    for name, each in sorted(kernels.items()):
        plain = next(row for row in each if row["architecture"] == _PLAIN)
        rows.append(
            (
                f"`{name}`",
                span([row["registers"] for row in each]),
                span([row["spill_stores"] for row in each]),
                span([row["spill_loads"] for row in each]),
                span([row["stack"] for row in each]),
                plain["shared"],
                plain["blocks"],
                f"{plain['occupancy']:.0%}",
                span([round(100 * row["occupancy"]) for row in each]) + "%",
            )
        )
    header = (
        *("kernel", "registers", "spill stores", "spill loads", "stack", "static shared"),
        *(f"blocks on {_PLAIN}", f"occupancy on {_PLAIN}", "on all"),
    )
    return table(header, rows)


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
    resources: Sequence[dict[str, Any]], loops: Sequence[dict[str, Any]], about: dict[str, Any]
) -> str:
    needed = H200.bandwidth * H200.latency / H200.processors / 1e3
    possible = H200.processors * H200.rate("issue") / 32 * H200.clock / 1e9
    return f"""\
# CUDA kernels without a GPU

Written by `benchmarks/cuda_kernels.py` with nvcc {about["nvcc"]}. Nothing here was measured: the
tables say what the compiler made of the kernels, and what that lets one expect.

## Registers, spills, occupancy

Over the architectures {", ".join(about["architectures"])}; bytes, except registers for each thread.
Occupancy is that of {THREADS} threads a block and static shared memory. The `planes` kernels add a
table of at most 24 kB, and less than 4 kB from 7 x 7 elements a channel on, which lowers nothing.

{resource_table(resources)}

## Main loops on compute capability 9.0

Instructions of one thread in one pass through the main loop, which stores `vectors` vectors of 16
bytes; its conditional parts are counted as taken. Kernels named `any` choose the activation at run
time: counted is the longest way through (silu; hardswish in double precision), and `all` gives the
shortest as well.

`load` and `store` are of 16 bytes in global memory, `narrow` of fewer. `select` are minima,
comparisons and selections, `special` the reciprocals that divisions start from; `integer` holds
addresses and moves too.

{class_table(loops)}

## Expected fraction of the copy bandwidth

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
