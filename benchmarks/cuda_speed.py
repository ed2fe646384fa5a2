"""What the convolutions of networks should take on an H200, on paper: no GPU needed.

    python benchmarks/cuda_kernels.py && python benchmarks/cuda_speed.py

Asks csrc/cuda/gemm_plan.h for each convolution's plan, and puts it through speed_model.py with what
cuda_kernels.py found. Writes results/cuda_speed.json and .md.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import cuda_speed_report
import gemm_plan
import speed_model
import typer
from gpu_limits import H200
from network_convolutions import Convolution, convolutions
from rich.console import Console

RESULTS = Path(__file__).parent / "results"
# timm's names; of the mobile ones the depthwise layers only.
NETWORKS = {
    "resnet34": False,
    "resnet50": False,
    "mobilenetv3_large_100": True,
    "efficientnet_b0": True,
}
BATCHES = (1, 32)
ELEMENT_BYTES = {"float": 4, "half": 2}


class Kernels:
    """results/cuda_kernels.json."""

    def __init__(self) -> None:
        found = json.loads((RESULTS / "cuda_kernels.json").read_text())
        self.resources = {row["kernel"]: row for row in found["kernels"]}
        self.loops = {row["kernel"]: row for row in found["tile_loops"]}

    def tiled(self, dtype: str, tile: gemm_plan.Tile, gather: str) -> speed_model.Kernel:
        name = f"conv2d_tile<{dtype}, {tile.name}, {gather}>"
        return speed_model.Kernel.of(self.resources[name], self.loops[name])

    def depthwise(self, dtype: str) -> tuple[int, float, float]:
        name = f"conv2d_direct<{dtype}, {speed_model.CHANNELS}, depthwise>"
        loop = self.loops[name]
        return self.resources[name]["on"]["9.0"]["blocks"], loop["step"], loop["row"]


def estimate(kernels: Kernels, conv: Convolution, batch: int, dtype: str) -> dict[str, Any]:
    """The plan's figures, and the best plan's by this model."""
    element = ELEMENT_BYTES[dtype]
    if conv.depthwise:
        return speed_model.direct(conv, batch, *kernels.depthwise(dtype), element)
    product = speed_model.product_of(conv, batch)

    def of(plan: gemm_plan.Plan) -> dict[str, Any]:
        kernel = kernels.tiled(dtype, plan.tile, speed_model.gather(conv))
        return speed_model.tiled(conv, batch, plan, kernel, element)

    device = (H200.processors, speed_model.SHARED_PER_BLOCK)
    row = of(gemm_plan.chosen(product, *device))
    every = [of(plan) for plan in gemm_plan.possible(product, *device)]
    best = min(every, key=lambda r: r["microseconds"])
    return {
        **row,
        "best": {key: best[key] for key in ("tile", "segments", "microseconds")},
        "to_best": round(row["microseconds"] / best["microseconds"], 3),
    }


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def summarize(network: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over distinct layers, and sums over all of them."""
    found = []
    for batch in BATCHES:
        for dtype in ELEMENT_BYTES:
            chosen = [r for r in rows if r["batch_size"] == batch and r["dtype"] == dtype]
            seconds = sum(r["count"] * r["microseconds"] for r in chosen) / 1e6
            fmas = sum(r["count"] * r["fmas"] for r in chosen)
            found.append(
                {
                    "network": network,
                    "batch_size": batch,
                    "dtype": dtype,
                    "layers": sum(r["count"] for r in chosen),
                    "mean_fraction": round(geometric_mean([r["fraction"] for r in chosen]), 3),
                    "mean_to_best": round(
                        geometric_mean([r.get("to_best", 1.0) for r in chosen]), 3
                    ),
                    "microseconds": round(seconds * 1e6, 1),
                    "fraction": round(2 * fmas / seconds / speed_model.PEAK, 3),
                }
            )
    return found


def main(
    write_results: Annotated[bool, typer.Option(help="write results/cuda_speed.*")] = True,
) -> None:
    kernels = Kernels()
    rows: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for network, only_depthwise in NETWORKS.items():
        own = [
            {
                "network": network,
                "batch_size": batch,
                "dtype": dtype,
                "layer": str(conv),
                "count": count,
                "fmas": conv.fmas(batch),
                **estimate(kernels, conv, batch, dtype),
            }
            for batch in BATCHES
            for dtype in ELEMENT_BYTES
            for conv, count in convolutions(network).items()
            if conv.depthwise or not only_depthwise
        ]
        rows += own
        networks += summarize(network, own)
    report = cuda_speed_report.report(rows, networks)
    if not write_results:
        print(report)
        return
    parts = []
    for key, entries in (("networks", networks), ("rows", rows)):
        lines = ",\n".join(f" {json.dumps(entry)}" for entry in entries)
        parts.append(f'"{key}": [\n{lines}\n]')
    (RESULTS / "cuda_speed.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")
    (RESULTS / "cuda_speed.md").write_text(report)
    Console().print(f"written to {RESULTS / 'cuda_speed.md'} and .json")


if __name__ == "__main__":
    typer.run(main)
