"""The BatchNorms of ResNet-34, ResNet-50 and EfficientNet-B0, alone and with what follows them,
against stock F.batch_norm and separate operators, interleaved in one run, on the CPU or on CUDA.

    python benchmarks/bench_batch_norm.py [--device cuda] [--models resnet50] [--batch-sizes 1,32]
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cuda_timing
import harness
import plot_batch_norm
import torch
import torch.nn.functional as F
import typer
from batch_norm_layers import NETWORKS, OPERATIONS
from batch_norm_report import print_tables, sum_networks
from rich.console import Console
from rich.progress import track
from torch import Tensor

import bninv

EPS = 1e-5
# Load average above which timings of several threads on the CPU are not to be trusted.
BUSY = 0.5

# Timed at every shape; the others only where a network has them.
EVERYWHERE = ("batch_norm", "relu", "add_relu")

# Unless told otherwise the CPU's other dtypes get these shapes only, to keep a run short.
FEW_SHAPES = ((64, 56), (256, 14), (2048, 7))

DTYPES = ("float32", "float16", "bfloat16", "float64")
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


def stock_with_cudnn(enabled: bool, *args: Any) -> Tensor:
    # Setting the flag takes microseconds on the host, of which a graph's replay sees nothing.
    with torch.backends.cudnn.flags(enabled=enabled):
        return stock(*args)


def unfused(operation: str, p: Parameters, x: Tensor, residual: Tensor) -> Tensor:
    return follow(operation, bninv.functional.batch_norm(x, *p, eps=EPS), residual)


def fused(operation: str, p: Parameters, x: Tensor, residual: Tensor) -> Tensor:
    _, add, activation = OPERATIONS[operation]
    return bninv.functional.batch_norm(
        x, *p, eps=EPS, residual=residual if add else None, activation=activation
    )


def candidates(operation: str, p: Parameters, device: str) -> dict[str, Callable[..., Tensor]]:
    chosen: dict[str, Callable[..., Tensor]] = {}
    if device == "cuda":
        chosen["stock_cudnn"] = partial(stock_with_cudnn, True, operation, p)
        chosen["stock_native"] = partial(stock_with_cudnn, False, operation, p)
    else:
        chosen["stock"] = partial(stock, operation, p)
    chosen["bninv"] = partial(fused, operation, p)
    if operation != "batch_norm":
        chosen["bninv_unfused"] = partial(unfused, operation, p)
    return chosen


# ---- Measuring -----------------------------------------------------------------------------------


def cases(
    models: list[str], batch_sizes: list[int], dtypes: dict[str, tuple[tuple[int, int], ...]]
) -> Iterator[Case]:
    """Every case once, though networks share shapes; `dtypes` names the shapes of each dtype."""
    for dtype, shapes in dtypes.items():
        for batch in batch_sizes:
            for channels, size in shapes:
                used = {o for m in models for o in NETWORKS[m].get((channels, size), {})}
                # bninv has no double-precision silu.
                used -= {"silu"} if dtype == "float64" else set()
                operations = tuple(o for o in OPERATIONS if o in EVERYWHERE or o in used)
                for memory_format in MEMORY_FORMATS:
                    yield Case(dtype, batch, channels, size, memory_format, operations)


def measure(case: Case, device: str, seconds: float, copy: float | None) -> list[dict[str, Any]]:
    """One row for each operation; `copy` is the CUDA device's copy bandwidth in GB/s."""
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
        if copy is not None:
            times = cuda_timing.interleave(runs, inputs, seconds, expected_ms=moved / copy / 1e6)
        else:
            times = harness.interleave(
                {n: partial(r, *inputs[0]) for n, r in runs.items()}, seconds
            )
        best = min(t["median"] for name, t in times.items() if name.startswith("stock"))
        row = {
            "batch_size": case.batch,
            "shape": [case.channels, case.size, case.size],
            "dtype": case.dtype,
            "memory_format": case.memory_format,
            "operation": operation,
            # Above 1: bninv is faster than the best stock.
            "ratio": round(best / times["bninv"]["median"], 4),
            "bytes_moved": moved,
            "gb_per_s": {n: float(f"{moved / t['median'] / 1e6:.5g}") for n, t in times.items()},
            "milliseconds": times,
        }
        if copy is not None:
            row["fraction_of_copy"] = round(row["gb_per_s"]["bninv"] / copy, 4)
        rows.append(row)
    return rows


def check_results(runs: dict[str, Callable[..., Tensor]], inputs: tuple[Tensor, Tensor]) -> None:
    """A wrong result is not worth timing. Only about equal: stock rounds differently."""
    results = {name: run(*inputs)[:1].double() for name, run in runs.items()}
    tolerance = 64 * torch.finfo(inputs[0].dtype).eps
    for result in results.values():
        torch.testing.assert_close(result, results["bninv"], rtol=tolerance, atol=tolerance)


# ---- The command line ----------------------------------------------------------------------------


def main(
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "auto",
    models: Annotated[str, typer.Option(help="comma-separated")] = ",".join(NETWORKS),
    batch_sizes: Annotated[str, typer.Option(help="default: 1,32, on CUDA 1,32,256")] = "",
    dtypes: Annotated[
        str, typer.Option(help="default: all; on the CPU float32, and of others a few shapes")
    ] = "",
    seconds: Annotated[
        float, typer.Option(help="time for each row, in all; default: 0.25, on CUDA 0.05")
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write a JSON file under --folder")] = True,
    folder: Annotated[Path, typer.Option(help="for the results")] = harness.RESULTS,
    plot: Annotated[bool, typer.Option(help="draw the results beside the JSON file")] = True,
) -> None:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{device!r}; it may be cpu, cuda or auto", param_hint="--device")
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("torch finds no GPU", param_hint="--device")
    on_gpu = device == "cuda"
    if threads:
        torch.set_num_threads(threads)
    chosen = one_of(models, NETWORKS, "--models")
    shapes = tuple(dict.fromkeys(shape for model in chosen for shape in NETWORKS[model]))
    few = shapes if on_gpu or dtypes else tuple(s for s in shapes if s in FEW_SHAPES)
    plan = {
        dtype: shapes if dtype == "float32" else few
        for dtype in one_of(dtypes or ",".join(DTYPES), DTYPES, "--dtypes")
    }
    batches = [int(size) for size in (batch_sizes or ("1,32,256" if on_gpu else "1,32")).split(",")]
    load = os.getloadavg()[0]
    copy, name, about = None, "batch_norm_cpu", {"load_average_before": round(load, 2)}
    if load > BUSY and not on_gpu:
        typer.echo(
            f"The load average is {load:.1f}: others use this machine. Then an operator's threads "
            "wait for each other far longer than they work, and the ratios count operators.",
            err=True,
        )
    if on_gpu:
        copy, name = cuda_timing.copy_bandwidth(), "batch_norm"
        folder /= cuda_timing.slug()
        about |= {**cuda_timing.describe(), "copy_gb_per_s": round(copy, 1)}

    console = Console()
    if not console.is_terminal:
        console.width = 100
    rows: list[dict[str, Any]] = []
    todo = list(cases(chosen, batches, plan))
    with torch.inference_mode():
        for case in track(todo, "timing", console=Console(stderr=True), transient=True):
            # An interrupted run leaves the dtypes it has finished.
            if write_results and rows and rows[-1]["dtype"] != case.dtype:
                harness.write(name, rows, folder, about, networks=sum_networks(chosen, rows))
            rows += measure(case, device, seconds or (0.05 if on_gpu else 0.25), copy)
    networks = sum_networks(chosen, rows)
    print_tables(console, rows, networks)
    if copy is not None:
        console.print(f"A device-to-device copy moves {copy:.0f} GB/s.")
    if not write_results:
        return
    path = harness.write(name, rows, folder, about, networks=networks)
    console.print(f"written to {path}")
    if plot:
        console.print(plot_batch_norm.draw_or_explain(path))


def one_of(values: str, known: Iterable[str], option: str) -> list[str]:
    for value in values.split(","):
        if value not in known:
            message = f"{value!r}; there are {', '.join(known)}"
            raise typer.BadParameter(message, param_hint=option)
    return values.split(",")


if __name__ == "__main__":
    typer.run(main)
