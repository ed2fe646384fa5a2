"""The convolutions of networks, alone and with BatchNorm and ReLU, against stock: each layer once.

    python -m benchmarks.bench_conv [--device cuda] [--models resnet50] [--batch-sizes 32,1]

All of ResNet-50, the depthwise ones of MobileNetV3 and the grouped ones of ResNeXt-50. The
candidates of a row take turns in one run; on CUDA in replays of CUDA graphs, over more memory than
the L2 holds. `ratio` is the time of the best stock in IEEE arithmetic to that of bninv: above 1,
bninv is faster. Rates are given beside those of a large float32 GEMM and of a large copy.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks import conv_candidates, conv_report, plot_conv
from benchmarks.common import command_line, cuda_timing, harness, measuring, references
from benchmarks.common.candidate import Candidate
from benchmarks.common.harness import digits
from benchmarks.conv_candidates import OPERATIONS, Layer
from benchmarks.network_convolutions import Convolution, convolutions

# timm's names, and which of their convolutions: the others are much like ResNet-50's.
NETWORKS = {
    "resnet50": lambda conv: True,
    "mobilenetv3_large_100": lambda conv: conv.depthwise,
    "resnext50_32x4d": lambda conv: conv.groups > 1,
}
ON_CPU: command_line.Defaults = {
    "models": list(NETWORKS),
    "batch_sizes": [1, 8],
    "dtypes": ["float32"],
    "seconds": 0.8,
    "budget": 0.0,
}
ON_CUDA: command_line.Defaults = {
    "models": list(NETWORKS),
    "batch_sizes": [32, 1],
    "dtypes": ["float32", "bfloat16", "float16"],
    "seconds": 0.1,
    "budget": 50.0,
}


class Item(NamedTuple):
    dtype: str
    batch_size: int
    operation: str
    conv: Convolution

    def key(self) -> dict[str, Any]:
        return {**self._asdict(), "conv": self.conv.label}

    def __str__(self) -> str:
        return f"{self.dtype}, batch {self.batch_size}, {self.operation} {self.conv.label}"


def layers(models: list[str]) -> dict[Convolution, dict[str, int]]:
    """Each distinct convolution, and how often it occurs in which network."""
    found: dict[Convolution, dict[str, int]] = {}
    for model in models:
        for conv, count in convolutions(model).items():
            if NETWORKS[model](conv):
                found.setdefault(conv, {})[model] = count
    return found


def measure(item: Item, device: str, seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds of each candidate."""
    dtype, conv, batch = getattr(torch, item.dtype), item.conv, item.batch_size
    runs = conv_candidates.candidates(conv, item.operation, dtype, device)
    first = conv_candidates.layer(conv, batch, dtype, device)
    check_results(runs, first, dtype)
    if device == "cpu":
        # One input, in the cache as far as it fits: where the layer before it leaves it.
        return harness.interleave({n: partial(c.run, *first) for n, c in runs.items()}, seconds)
    moved = bytes_moved(conv, batch, dtype)
    others = range(cuda_timing.sets_past_l2(moved) - 1)
    inputs = [first, *(conv_candidates.layer(conv, batch, dtype, device) for _ in others)]
    # Roughly: 50 TFLOP/s, 3 TB/s.
    expected = max(2 * conv.fmas(batch) / 50e9, moved / 3e9, 0.002)
    return cuda_timing.interleave(runs, inputs, seconds, expected)


def bytes_moved(conv: Convolution, batch: int, dtype: torch.dtype) -> int:
    """Input, weight and output, once each."""
    pixels = conv.channels * conv.size**2 + conv.out_channels * conv.out_size**2
    return (batch * pixels + conv.out_channels * conv.terms) * dtype.itemsize


def check_results(runs: dict[str, Candidate], inputs: Layer, dtype: torch.dtype) -> None:
    expected = runs["bninv"].run(*inputs).double()
    for name, candidate in runs.items():
        difference = candidate.difference(inputs, expected)
        if not difference <= candidate.tolerance(dtype):
            raise RuntimeError(f"{name} is {difference:.2g} of the greatest element off")


def row_of(
    item: Item,
    counts: dict[str, int],
    times: dict[str, dict[str, float]],
    measured: dict[str, float],
) -> dict[str, Any]:
    medians = {name: t["median"] for name, t in times.items()}
    best = min(conv_candidates.BASELINES, key=medians.__getitem__)
    flop = 2 * item.conv.fmas(item.batch_size)
    moved = bytes_moved(item.conv, item.batch_size, getattr(torch, item.dtype))
    tflops = {name: flop / t / 1e9 for name, t in medians.items()}
    gb_per_s = {name: moved / t / 1e6 for name, t in medians.items()}
    gemm, copy = measured["gemm_tflops"], measured["copy_gb_per_s"]
    return {
        **item.key(),
        "counts": counts,
        "ratio": digits(medians[best] / medians["bninv"], 4),
        "best_stock": best,
        "flop": flop,
        "bytes_moved": moved,
        "tflops": {name: digits(rate) for name, rate in tflops.items()},
        "gb_per_s": {name: digits(rate) for name, rate in gb_per_s.items()},
        "fraction_of_gemm": {name: round(rate / gemm, 4) for name, rate in tflops.items()},
        "fraction_of_copy": {name: round(rate / copy, 4) for name, rate in gb_per_s.items()},
        "milliseconds": times,
    }


def main(arguments: list[str] | None = None) -> None:
    made = command_line.parser(__doc__ or "", ON_CPU, ON_CUDA)
    command_line.add_lists(made, ON_CPU, ON_CUDA)
    given = made.parse_args(arguments)
    command_line.settle(made, given, ON_CPU, ON_CUDA)
    command_line.need_known(made, "--models", given.models, NETWORKS)
    command_line.need_known(made, "--dtypes", given.dtypes, ON_CUDA["dtypes"])
    known = layers(given.models)
    summarize = partial(conv_report.summaries, known=list(known.values()))
    results = command_line.result_file("conv", given, summarize)
    items = itertools.product(given.dtypes, given.batch_sizes, OPERATIONS, known)
    todo = [item for item in itertools.starmap(Item, items) if item.key() not in results]
    references.add_to(results.measured, given.device, gemm=True)

    def rows_of(item: Item) -> list[dict[str, Any]]:
        with torch.inference_mode():
            times = measure(item, given.device, given.seconds)
        return [row_of(item, known[item.conv], times, results.measured)]

    measuring.measure_all(results, todo, rows_of, given.budget)
    conv_report.show(results.rows, list(known.values()), results.measured)
    measuring.finish(results, given, plot_conv.draw)


if __name__ == "__main__":
    main()
