"""The figures as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.common.tables import markdown

SHOWN = ("8.0", "8.6", "9.0")


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
    return markdown((*header, "spilled"), rows, left=1)


def compile_table(times: Sequence[dict[str, Any]]) -> str:
    rows = [(f"`{row['file']}`", row["seconds"], row["slowest"]) for row in times]
    return markdown(("file", "all architectures", "slowest"), rows, left=1)


def report(kernels: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    return f"""\
# CUDA kernels without a GPU

Written by `make kernels` with nvcc {about["nvcc"]}. Nothing here was measured: the
tables say what the compiler made of the kernels.

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
"""
