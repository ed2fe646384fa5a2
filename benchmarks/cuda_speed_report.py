"""cuda_speed.py's figures as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import speed_model as model
from cuda_kernels_report import table
from gpu_limits import H200


def network_table(networks: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            row["network"],
            row["batch_size"],
            row["dtype"],
            row["layers"],
            row["microseconds"],
            f"{row['fraction']:.0%}",
            f"{row['mean_fraction']:.0%}",
            row["mean_to_best"],
        )
        for row in networks
    ]
    header = ("network", "batch", "dtype", "layers", "sum, us", "of the peak", "mean", "to best")
    return table(header, rows)


def layer_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        split = f"{row['segments']} of {row['of_segments']}" if row["split"] else "no"
        best = row.get("best")
        better = ""
        if best is not None and row["to_best"] > 1.02:
            better = f"{best['tile']}, {best['segments']}: {best['microseconds']}"
        lines.append(
            (
                f"{row['layer']} (x {row['count']})",
                row["tile"],
                split,
                row["blocks"],
                row["waves"],
                f"{row['occupancy']:.0%}",
                f"{row['useful']:.0%}",
                f"{row['fmas'] / 1e6:.0f}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['l2_bytes'] / 1e6:.1f}",
                row["limit"],
                row["microseconds"],
                f"**{row['fraction']:.0%}**",
                better,
            )
        )
    header = (
        *("layer", "tile", "split", "blocks", "waves", "occupancy", "useful", "10^6 fma", "MB"),
        *("MB from L2", "limit", "us", "of the peak", "better"),
    )
    return table(header, lines)


def report(rows: Sequence[dict[str, Any]], networks: Sequence[dict[str, Any]]) -> str:
    parts = []
    seen = dict.fromkeys((r["network"], r["batch_size"]) for r in rows)
    for network, batch in seen:
        chosen = [
            r for r in rows
            if (r["network"], r["batch_size"], r["dtype"]) == (network, batch, "float")
        ]  # fmt: skip
        parts.append(f"### {network}, batch {batch}, float32\n\n{layer_table(chosen)}\n")
    return f"""\
# Convolutions on an H200, on paper

Written by `benchmarks/cuda_speed.py`. **Estimates that no GPU has confirmed**: plans are those that
csrc/cuda/gemm_plan.h chooses, instructions and registers those of results/cuda_kernels.json, and
the rest is the model below (benchmarks/speed_model.py). Images of 224 x 224 pixels, tensors in
channels_last, each convolution with its epilogue, without a residual. The mobile networks'
depthwise layers only. Float16 rows (`half`) are in the JSON file.

## The model

An H200: {H200.processors} multiprocessors, {model.PEAK / 1e12:.0f} TFLOP/s by its data sheet, which
is a clock of {model.CLOCK / 1e9:.2f} GHz (under load it may be lower, and all but memory slows
alike), {H200.bandwidth / 1e12} TB/s, 228 kB of shared memory a multiprocessor. The time is
{model.LAUNCH * 1e6} us for each launch, plus the longest of these:

- *fma issue*: instructions of the busiest of a multiprocessor's four schedulers, one a cycle: those
  of the main loop, whole tiles and steps, and, assumed, {model.SETUP:.0f} before it and
  {model.EPILOGUE:.0f} for four outputs after it ({model.SPLIT_STORE:.0f} for those of a segment
  that go to the workspace); plus {model.FIRST_LOADS:.0f} cycles (assumed) for the first loads.
- *shared memory*: the cycles that the accesses of all warps occupy.
- *latency*: blocks that must wait for each other, by how many a multiprocessor holds, each with its
  warps as if alone: instructions, {model.SHARED_LATENCY:.0f} cycles for each group of terms and
  {model.BARRIER:.0f} for each barrier (assumed).
- *memory*: input, weight and output once, at {model.COPY:.0%} of the data sheet's bandwidth
  (assumed), as if nothing were in the L2 before.
- *L2*: what all blocks read, at {model.L2_BANDWIDTH / 1e12} TB/s (assumed). Depthwise: each row as
  often as windows hold it.
- *L1*, depthwise only: what all threads read, at 128 bytes a cycle.

A split adds a launch, and its workspace, written and read through the L2. *limit*: the longest, or
`launch` (`split`) where that takes longer still. *useful*: fmas of the layer by those of its tiles.
*waves*: blocks by those that the GPU holds. *better*: what this model would choose, where it
promises more than 2 %: tile, segments of a block, microseconds.

## Networks

Sums over all layers, as often as each occurs; *mean*: the geometric mean over distinct layers of
the fraction of the peak; *to best*: of the time by that of the best plan in this model.

{network_table(networks)}

## Layers

{chr(10).join(parts)}"""
