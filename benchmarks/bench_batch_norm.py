"""The BatchNorms of ResNet-34, ResNet-50 and EfficientNet-B0, alone and with what follows them,
against stock F.batch_norm and separate operators, interleaved in one run, on the CPU or on CUDA.

    python -m benchmarks.bench_batch_norm [--device cuda] [--models resnet50] [--batch-sizes 1,32]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import bninv
from benchmarks import batch_norm_report, plot_batch_norm
from benchmarks.batch_norm_layers import NETWORKS, OPERATIONS
from benchmarks.common import command_line, cuda_timing, harness, measuring, references
from benchmarks.common.candidate import Candidate, Switches

EPS = 1e-5

# Timed at every shape; the others only where a network has them.
EVERYWHERE = ("batch_norm", "relu", "add_relu")

# Unless told otherwise the CPU's other dtypes get these shapes only, to keep a run short.
FEW_SHAPES = ((64, 56), (256, 14), (2048, 7))

DTYPES = ("float32", "float16", "bfloat16", "float64")
ON_CPU = {
    "models": list(NETWORKS),
    "batch_sizes": [1, 32],
    "dtypes": list(DTYPES),
    "seconds": 0.25,
    "budget": 0.0,
}
ON_CUDA = {**ON_CPU, "batch_sizes": [32, 1, 256], "seconds": 0.05, "budget": 38.0}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ACTIVATIONS = {"relu": F.relu, "silu": F.silu}


@dataclass(frozen=True)
class Case:
    """One input, on which several operations are timed."""

    dtype: str
    batch: int
    channels: int
    size: int
    memory_format: str
    operations: tuple[str, ...]

    def key(self, operation: str) -> dict[str, Any]:
        return {
            "batch_size": self.batch,
            "shape": [self.channels, self.size, self.size],
            "dtype": self.dtype,
            "memory_format": self.memory_format,
            "operation": operation,
        }


class Parameters(NamedTuple):
    """In the order in which F.batch_norm takes them."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor


# ---- What is compared ----------------------------------------------------------------------------


def follow(operation: str, y: Tensor, residual: Tensor) -> Tensor:
    """The separate operators, in place as the networks call them; `y` is the caller's own."""
    _, add, activation = OPERATIONS[operation]
    if add:
        y += residual
    return ACTIVATIONS[activation](y, inplace=True) if activation != "none" else y


def stock(operation: str, p: Parameters, x: Tensor, residual: Tensor) -> Tensor:
    return follow(operation, F.batch_norm(x, *p, eps=EPS), residual)


def unfused(operation: str, p: Parameters, x: Tensor, residual: Tensor) -> Tensor:
    return follow(operation, bninv.functional.batch_norm(x, *p, eps=EPS), residual)


def fused(operation: str, p: Parameters, x: Tensor, residual: Tensor) -> Tensor:
    _, add, activation = OPERATIONS[operation]
    return bninv.functional.batch_norm(
        x, *p, eps=EPS, residual=residual if add else None, activation=activation
    )


def candidates(operation: str, p: Parameters, device: str) -> dict[str, Candidate]:
    separate = partial(stock, operation, p)
    chosen = {"stock": Candidate(separate)}
    if device == "cuda":
        chosen = {
            "stock_cudnn": Candidate(separate, Switches(cudnn=True)),
            "stock_native": Candidate(separate, Switches(cudnn=False)),
        }
    chosen["bninv"] = Candidate(partial(fused, operation, p))
    if operation != "batch_norm":
        chosen["bninv_unfused"] = Candidate(partial(unfused, operation, p))
    return chosen


# ---- Measuring -----------------------------------------------------------------------------------


def cases(
    models: list[str], batch_sizes: list[int], dtypes: dict[str, tuple[tuple[int, int], ...]]
) -> Iterator[Case]:
    """Every case once, though networks share shapes: first what the networks have.

    Args:
        dtypes: the shapes of each dtype.
    """
    for in_networks in (True, False):
        for dtype, batch in itertools.product(dtypes, batch_sizes):
            for channels, size in dtypes[dtype]:
                used = {o for m in models for o in NETWORKS[m].get((channels, size), {})}
                # bninv has no double-precision silu.
                used -= {"silu"} if dtype == "float64" else set()
                timed = used if in_networks else {*EVERYWHERE} - used
                operations = tuple(o for o in OPERATIONS if o in timed)
                for memory_format in MEMORY_FORMATS if operations else ():
                    yield Case(dtype, batch, channels, size, memory_format, operations)


def measure(case: Case, device: str, seconds: float, copy: float) -> list[dict[str, Any]]:
    """One row for each operation; `copy` is the bandwidth of a large copy in GB/s."""
    dtype = getattr(torch, case.dtype)
    shape = (case.batch, case.channels, case.size, case.size)
    # float32 parameters beside half inputs, as under autocast: cuDNN takes float16 no other way.
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    mean, var, weight, bias = torch.randn(4, case.channels, dtype=wide, device=device)
    parameters = Parameters(mean, var.abs() + 0.5, weight, bias)

    def tensor() -> Tensor:
        y = torch.empty(
            shape, dtype=dtype, device=device, memory_format=MEMORY_FORMATS[case.memory_format]
        )
        return y.normal_()

    tensor_bytes = math.prod(shape) * dtype.itemsize
    # On the CPU one input, in the cache as far as it fits: where a network's convolution leaves it.
    sets = cuda_timing.sets_past_l2(2 * tensor_bytes) if device == "cuda" else 1
    inputs = [(tensor(), tensor()) for _ in range(sets)]
    rows = []
    for operation in case.operations:
        runs = candidates(operation, parameters, device)
        check_results(runs, inputs[0])
        moved = tensor_bytes * (3 if OPERATIONS[operation].add else 2)
        if device == "cuda":
            times = cuda_timing.interleave(runs, inputs, seconds, expected_ms=moved / copy / 1e6)
        else:
            calls = {name: partial(c.run, *inputs[0]) for name, c in runs.items()}
            times = harness.interleave(calls, seconds)
        best = min(t["median"] for name, t in times.items() if name.startswith("stock"))
        rates = {name: moved / t["median"] / 1e6 for name, t in times.items()}
        rows.append(
            {
                **case.key(operation),
                # Above 1: bninv is faster than the best stock.
                "ratio": round(best / times["bninv"]["median"], 4),
                "bytes_moved": moved,
                "gb_per_s": {name: harness.digits(rate) for name, rate in rates.items()},
                "fraction_of_copy": round(rates["bninv"] / copy, 4),
                "milliseconds": times,
            }
        )
    return rows


def check_results(runs: dict[str, Candidate], inputs: tuple[Tensor, Tensor]) -> None:
    """A wrong result is not worth timing. Only about equal: stock rounds differently."""
    results = {}
    for name, candidate in runs.items():
        with candidate.switches.on():
            results[name] = candidate.run(*inputs)[:1].double()
    tolerance = 64 * torch.finfo(inputs[0].dtype).eps
    for result in results.values():
        torch.testing.assert_close(result, results["bninv"], rtol=tolerance, atol=tolerance)


# ---- The command line ----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    made = command_line.parser(__doc__ or "", ON_CPU, ON_CUDA)
    command_line.add_lists(made, ON_CPU, ON_CUDA)
    given = made.parse_args(arguments)
    chosen_dtypes = given.dtypes is not None
    command_line.settle(made, given, ON_CPU, ON_CUDA)
    command_line.need_known(made, "--models", given.models, NETWORKS)
    command_line.need_known(made, "--dtypes", given.dtypes, DTYPES)
    shapes = tuple(dict.fromkeys(shape for model in given.models for shape in NETWORKS[model]))
    all_shapes = given.device == "cuda" or chosen_dtypes
    few = shapes if all_shapes else tuple(s for s in shapes if s in FEW_SHAPES)
    plan = {dtype: shapes if dtype == "float32" else few for dtype in given.dtypes}
    summarize = partial(batch_norm_report.summaries, models=given.models)
    results = command_line.result_file("batch_norm", given, summarize)
    todo = [
        case
        for case in cases(given.models, given.batch_sizes, plan)
        if any(case.key(operation) not in results for operation in case.operations)
    ]
    references.add_to(results.measured, given.device)

    def rows_of(case: Case) -> list[dict[str, Any]]:
        with torch.inference_mode():
            return measure(case, given.device, given.seconds, results.measured["copy_gb_per_s"])

    measuring.measure_all(results, todo, rows_of, given.budget)
    batch_norm_report.show(results.rows, given.models, results.measured)
    measuring.finish(results, given, plot_batch_norm.draw)


if __name__ == "__main__":
    main()
