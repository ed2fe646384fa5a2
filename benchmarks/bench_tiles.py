"""Every tile and split of the CUDA convolutions of networks, and what the plan makes of them.

    python -m benchmarks.bench_tiles [--models resnet50] [--batch-sizes 32,1]      needs a GPU

Tile and split change no bit, so that all of a layer's take turns in one run, in replays of CUDA
graphs. `plan` is the choice of csrc/cuda/gemm_plan.h, whose constants these times are for.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import conv_candidates
from benchmarks.common import command_line, cuda_timing, measuring, references
from benchmarks.common.candidate import Candidate
from benchmarks.common.harness import digits
from benchmarks.common.result_file import Row
from benchmarks.common.tables import plain
from benchmarks.network_convolutions import Convolution, convolutions
from bninv.building import extension

ON_CUDA = {
    "models": ["resnet50", "efficientnet_b0"],
    "batch_sizes": [32, 1],
    "dtypes": ["float32", "bfloat16"],
    "seconds": 0.1,
    "budget": 45.0,
}
# csrc/cuda/gemm_plan.h's, in its order; what the widest cannot do and those two can.
TILES = ("128x128", "128x64", "64x64", "128x32", "32x32")
ANY_ALIGNMENT = ("64x64", "32x32")
MOST_TAPS = 32
SEGMENT = 128
MOST_WORKSPACE = 32 * 2**20
PLAN = "plan"


class Item(NamedTuple):
    dtype: str
    batch_size: int
    conv: Convolution

    def key(self) -> dict[str, Any]:
        return {**self._asdict(), "conv": self.conv.label}

    def __str__(self) -> str:
        return f"{self.dtype}, batch {self.batch_size}, {self.conv.label}"


def plans(conv: Convolution, batch: int) -> dict[str, tuple[int, int]]:
    """By name: a tile's number, and the segments of R1 that a block does; -1: the plan's choice."""
    segments = -(-conv.terms // SEGMENT)
    found = {PLAN: (-1, 0)}
    for number, tile in enumerate(TILES):
        if conv.channels % 4 and tile not in ANY_ALIGNMENT:
            continue
        if tile == TILES[0] and conv.kernel**2 > MOST_TAPS:
            continue
        own = segments
        while True:
            workspace = 4 * segments * batch * conv.out_size**2 * conv.out_channels
            if own == segments or workspace <= MOST_WORKSPACE:
                found[f"{tile}, {own} of {segments}"] = number, own
            if own == 1:
                break
            own = (own + 1) // 2
    return found


def set_plan(tile: int, segments_per_block: int) -> None:
    torch.ops.bninv._set_cuda_plan(tile, segments_per_block)


def run(plan: tuple[int, int], rest: conv_candidates.Rest, *fields: Any) -> Tensor:
    set_plan(*plan)
    try:
        return conv_candidates.fused(rest, *fields)
    finally:
        set_plan(-1, 0)


def measure(item: Item, seconds: float) -> Row:
    dtype, conv, batch = getattr(torch, item.dtype), item.conv, item.batch_size
    rest = (conv.stride, conv.padding, 1, conv.groups)
    runs = {name: Candidate(partial(run, plan, rest)) for name, plan in plans(conv, batch).items()}
    inputs = [conv_candidates.layer(conv, batch, dtype, "cuda") for _ in range(2)]
    expected = runs[PLAN].run(*inputs[0])
    for name, candidate in runs.items():
        if not torch.equal(candidate.run(*inputs[0]), expected):
            raise RuntimeError(f"{name}: other bits than the plan's")
    flop = 2 * conv.fmas(batch)
    times = cuda_timing.interleave(runs, inputs, seconds, max(flop / 40e9, 0.004))
    medians = {name: t["median"] for name, t in times.items()}
    best = min(medians, key=medians.__getitem__)
    return {
        **item.key(),
        "ratio": digits(medians[PLAN] / medians[best], 4),
        "best": best,
        "tflops": digits(flop / medians[best] / 1e9),
        "microseconds": {name: digits(1e3 * t, 4) for name, t in medians.items()},
    }


def show(rows: list[Row]) -> None:
    for (dtype, batch), some in itertools.groupby(rows, lambda r: (r["dtype"], r["batch_size"])):
        lines = [
            (
                row["conv"],
                row["best"],
                f"{row['microseconds'][row['best']]:#.4g}",
                f"{row['microseconds'][PLAN]:#.4g}",
                f"{row['ratio']:.2f}",
                f"{row['tflops']:#.3g}",
            )
            for row in some
        ]
        columns = ("layer", "fastest", "us", "plan's\nus", "ratio", "TFLOP/s")
        print(plain(f"Tiles and splits, {dtype}, batch {batch}", columns, lines, left=2))


def main(arguments: list[str] | None = None) -> None:
    made = command_line.parser(__doc__ or "", ON_CUDA, ON_CUDA)
    command_line.add_lists(made, ON_CUDA, ON_CUDA)
    given = made.parse_args(arguments)
    command_line.settle(made, given, ON_CUDA, ON_CUDA)
    if given.device != "cuda":
        made.error("argument --device: tiles are those of a GPU's kernels, and torch finds none")
    extension.load()
    known = [
        conv
        for conv in dict.fromkeys(c for model in given.models for c in convolutions(model))
        if conv.groups == 1
    ]
    results = command_line.result_file("tiles", given, lambda rows: {})
    items = itertools.starmap(Item, itertools.product(given.dtypes, given.batch_sizes, known))
    todo = [item for item in items if item.key() not in results]
    references.add_to(results.measured, given.device, gemm=True)

    def rows_of(item: Item) -> list[Row]:
        with torch.inference_mode():
            return [measure(item, given.seconds)]

    measuring.measure_all(results, todo, rows_of, given.budget)
    show(results.rows)
    measuring.finish(results, given)


if __name__ == "__main__":
    main()
