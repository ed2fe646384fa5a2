"""Whole models: patched against stock eager, in each of its settings, folded, and compiled.

    python -m benchmarks.bench_models [--device cuda] [--models resnet50] [--batch-sizes 32,1]

The candidates of a row take turns in one run. On CUDA `milliseconds` is the GPU's time alone, of
replays of a CUDA graph, and `eager_milliseconds` what a caller waits for; on the CPU they are one.
`ratio` is the best stock eager time in IEEE arithmetic to the patched time: above 1, patched is
faster. Stock as PyTorch has it by default on a GPU (TF32 in convolutions) and under AMP stand
beside it; `error` is each one's greatest difference to the same network in float64, as a part of
the greatest output.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor

import bninv
from benchmarks import models_report, plot_models
from benchmarks.common import command_line, cpu_memory, cuda_timing, gpu_load, harness, measuring
from benchmarks.common.candidate import Candidate
from benchmarks.common.harness import digits
from benchmarks.model_candidates import GROUPS, ONCE, candidates, networks

ON_CPU: command_line.Defaults = {
    "models": ["resnet50", "resnet34", "mobilenetv3_large_100", "efficientnet_b0"],
    "batch_sizes": [1, 8, 32],
    "dtypes": ["float32"],
    "seconds": 20.0,
    "budget": 0.0,
    "compile": False,
}
ON_CUDA: command_line.Defaults = {
    "models": [
        "resnet50",
        "resnet34",
        "efficientnet_b0",
        "mobilenetv3_large_100",
        "regnety_016",
        "densenet121",
    ],
    "batch_sizes": [32, 256, 1],
    "dtypes": ["float32", "bfloat16", "float16"],
    "seconds": 1.0,
    "budget": 120.0,
    "compile": True,
}
PIXELS = 224
REFERENCE = 4  # images of a batch that are computed in float64, too
# cuDNN's plans are kept for each thread, and found there again whether they were searched for or
# guessed: the two need threads of their own.
SEARCHING = ThreadPoolExecutor(max_workers=1)


class Key(NamedTuple):
    """What a row is about."""

    model: str
    dtype: str
    batch_size: int
    group: str

    def __str__(self) -> str:
        return f"{self.model} {self.dtype} batch {self.batch_size} {self.group}"


def plan(given: argparse.Namespace) -> list[Key]:
    """All rows, the most important first: what stands first in a list, and what is quick."""
    groups = list(GROUPS) if given.device == "cuda" else ["eager", "compiled"]
    if not given.compile:
        groups.remove("compiled")
    first = (given.models[0], given.batch_sizes[0])

    def importance(key: Key) -> float:
        model, batch = given.models.index(key.model), given.batch_sizes.index(key.batch_size)
        return (
            4 * min(model, 1)
            + 0.1 * model
            + 2 * batch
            + 3 * given.dtypes.index(key.dtype)
            + {"eager": 0, "compiled": 1, "others": 6, "cudnn.benchmark": 9}[key.group]
        )

    keys = [
        key
        for key in itertools.starmap(
            Key, itertools.product(given.models, given.dtypes, given.batch_sizes, groups)
        )
        if key.group not in ONCE or (key.model, key.batch_size) == first
    ]
    return sorted(keys, key=importance)


def measure(key: Key, given: argparse.Namespace) -> dict[str, Any]:
    dtype = getattr(torch, key.dtype)
    shape = (key.batch_size, 3, PIXELS, PIXELS)
    nchw = torch.randn(shape, dtype=dtype, device=given.device)
    inputs = (nchw, nchw.to(memory_format=torch.channels_last))
    row: dict[str, Any] = key._asdict()
    # As users do before they enter inference_mode: parameters made there would be of another kind.
    patched = networks(key.model, given.device, dtype).patched
    with torch.inference_mode():
        expected = reference(key.model, given.device, dtype, nchw[:REFERENCE])
        runs = candidates(
            key.model, given.device, dtype, key.batch_size, key.group, given.compile_seconds
        )
        runs, row["error"], row["failures"] = check(runs, inputs, expected, dtype)
        # What the patched model computes by stock operators: its time is not that of the promise.
        row["uncovered"] = [call.operator for call in bninv.uncovered(patched)]
        row["peak_mib"] = {name: peak_mib(c, inputs, given.device) for name, c in runs.items()}
        if given.device == "cuda":
            row["load"] = {}
            times = time_on_cuda(runs, inputs, given.seconds, row["load"])
        else:
            calls = {name: partial(c.run, *inputs) for name, c in runs.items()}
            # Checking was warming up.
            times = {"": harness.interleave(calls, given.seconds, least=3, warmup=0)}
    for kind, found in times.items():
        row |= compare(kind, found, [n for n, c in runs.items() if c.baseline])
    # Those that no graph suits by what a caller waits for.
    waits = {**times.get("eager_", {}), **times[""]}
    row["images_per_s"] = {n: digits(1e3 * key.batch_size / t["median"]) for n, t in waits.items()}
    return row


def reference(name: str, device: str, dtype: torch.dtype, images: Tensor) -> Tensor:
    """What the network gives in float64, of weights and images as they are in `dtype`."""
    stock = copy.deepcopy(networks(name, device, dtype).nchw).double()
    result: Tensor = stock(images.double())
    return result


def check(
    runs: dict[str, Candidate],
    inputs: tuple[Tensor, Tensor],
    expected: Tensor,
    dtype: torch.dtype,
) -> tuple[dict[str, Candidate], dict[str, float], dict[str, str]]:
    """Call each twice.

    Returns:
        Those whose results are right; each one's error; and why others have failed.
    """
    good, errors, failures = {}, {}, {}
    for name, candidate in runs.items():
        try:
            with candidate.switches.on():
                candidate.run(*inputs)
            difference = candidate.difference(inputs, expected)
        # Whatever a compiler or an allocator raises: the other candidates are timed all the same.
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"[:500]
            continue
        if difference <= candidate.tolerance(dtype):
            good[name], errors[name] = candidate, digits(difference, 3)
        else:
            failures[name] = f"its result is {difference:.2g} of the greatest element off"
    if "patched" not in good or not any(candidate.baseline for candidate in good.values()):
        raise RuntimeError(f"there is nothing to compare: {failures}")
    return good, errors, failures


def peak_mib(candidate: Candidate, inputs: tuple[Tensor, Tensor], device: str) -> float | None:
    """Beside weights and input: activations and workspaces."""
    with candidate.switches.on():
        measure_peak = cuda_timing.peak_bytes if device == "cuda" else cpu_memory.peak_bytes
        peak = measure_peak(partial(candidate.run, *inputs))
    return None if peak is None else round(peak / 2**20, 1)


def time_on_cuda(
    runs: dict[str, Candidate],
    inputs: tuple[Tensor, Tensor],
    seconds: float,
    load: gpu_load.Figures,
) -> dict[str, cuda_timing.Times]:
    """The GPU's time first, without those candidates that no graph suits; then a caller's."""
    # One input: the activations of even one image are more than the L2 holds.
    eager = cuda_timing.interleave_calls(runs, [inputs], seconds / 2)
    graphs = {name: c for name, c in runs.items() if c.graph}
    expected = min(eager[name]["median"] for name in graphs)
    with gpu_load.watched(load):
        times = cuda_timing.interleave(graphs, [inputs], seconds / 2, expected)
    return {"": times, "eager_": eager}


def compare(kind: str, times: cuda_timing.Times, baselines: list[str]) -> dict[str, Any]:
    """The times, and their ratios to the patched one; `ratio` is that of the best baseline."""
    ours = times["patched"]["median"]
    ratios = {n: digits(t["median"] / ours, 4) for n, t in times.items() if n != "patched"}
    best = min((n for n in baselines if n in ratios), key=ratios.__getitem__)
    return {
        f"{kind}ratio": ratios[best],
        f"{kind}best_stock": best,
        f"{kind}ratios": ratios,
        f"{kind}milliseconds": times,
    }


def main(arguments: list[str] | None = None) -> None:
    made = command_line.parser(__doc__ or "", ON_CPU, ON_CUDA)
    command_line.add_lists(made, ON_CPU, ON_CUDA)
    made.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="time torch.compile too; default: on CUDA",
    )
    made.add_argument("--compile-seconds", type=float, default=60.0, help="for each compilation")
    given = made.parse_args(arguments)
    command_line.settle(made, given, ON_CPU, ON_CUDA)
    command_line.need_known(made, "--dtypes", given.dtypes, ON_CUDA["dtypes"])
    for name in given.models:
        if not timm.is_model(name):
            made.error(f"argument --models: timm has no {name!r}")
    results = command_line.result_file("models", given, models_report.summaries)
    todo = [key for key in plan(given) if key._asdict() not in results]

    def rows_of(key: Key) -> list[dict[str, Any]]:
        if key.group == "cudnn.benchmark":
            return [SEARCHING.submit(measure, key, given).result()]
        return [measure(key, given)]

    measuring.measure_all(results, todo, rows_of, given.budget)
    models_report.show(results.rows)
    measuring.finish(results, given, plot_models.draw)


if __name__ == "__main__":
    main()
