"""Whole models, patched against stock eager in both memory formats, interleaved in one run.

python benchmarks/bench_models.py [--device cuda] [--models resnet34] [--batch-sizes 1,8,32]
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any

import cuda_timing
import stock_cudnn
import timm
import torch
import typer
from harness import RESULTS, interleave, write
from rich.console import Console
from rich.table import Table

import bninv


def on_cuda(models: list[str], batch_sizes: list[int], seconds: float, write_results: bool) -> None:
    """Stock in each setting of cuDNN's, and patched: graph replays, so without the host's part."""
    rows: list[dict[str, Any]] = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        names = [*stock_cudnn.settings(dtype), "patched"]
        table = Table(title=f"milliseconds a forward (median), {dtype}")
        for column in ("model", "batch", *names, "ratio"):
            table.add_column(column, justify="left" if column == "model" else "right")
        for name in models:
            torch.manual_seed(0)
            nchw = timm.create_model(name).eval().to("cuda", dtype)
            nhwc = copy.deepcopy(nchw).to(memory_format=torch.channels_last)
            patched = bninv.patch(copy.deepcopy(nchw), strict=True)
            runs = dict(stock_cudnn.candidates(dtype, {False: nchw, True: nhwc}))
            runs["patched"] = partial(_first, patched)
            for batch in batch_sizes:
                images = [
                    torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype) for _ in range(2)
                ]
                inputs = [(x, x.to(memory_format=torch.channels_last)) for x in images]
                with torch.inference_mode():
                    times = cuda_timing.interleave(runs, inputs, seconds, expected_ms=1.0)
                # TF32 has its own columns: it is another arithmetic.
                exact = [n for n in names if n != "patched" and "TF32" not in n]
                ratio = min(times[n]["median"] for n in exact) / times["patched"]["median"]
                row = {"model": name, "dtype": str(dtype).removeprefix("torch.")}
                rows.append({**row, "batch_size": batch, "ratio": ratio, "milliseconds": times})
                cells = (f"{times[n]['median']:.2f}" for n in names)
                table.add_row(name, str(batch), *cells, f"{ratio:.2f}")
        Console().print(table)
    if write_results:
        folder = RESULTS / cuda_timing.slug()
        Console().print(f"written to {write('models', rows, folder, cuda_timing.describe())}")


def _first(model: torch.nn.Module, nchw: torch.Tensor, _: torch.Tensor) -> Any:
    return model(nchw)


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    models: Annotated[str, typer.Option(help="timm names, comma-separated")] = "resnet34,resnet50",
    batch_sizes: Annotated[str, typer.Option(help="comma-separated")] = "1,8,32",
    seconds: Annotated[
        float, typer.Option(help="time for each row, in all; default: 20, on CUDA 2")
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write a JSON file in results/")] = True,
) -> None:
    if device == "cuda":
        if not torch.cuda.is_available():
            raise typer.BadParameter("torch finds no GPU", param_hint="--device")
        batches = [int(size) for size in batch_sizes.split(",")]
        on_cuda(models.split(","), batches, seconds or 2.0, write_results)
        return
    seconds = seconds or 20.0
    if threads:
        torch.set_num_threads(threads)
    table = Table(title="milliseconds a forward (median)")
    for column in ("model", "batch", "stock NCHW", "stock channels_last", "patched", "ratio"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows: list[dict[str, Any]] = []
    for name in models.split(","):
        torch.manual_seed(0)
        nchw = timm.create_model(name).eval()
        nhwc = copy.deepcopy(nchw).to(memory_format=torch.channels_last)
        patched = bninv.patch(copy.deepcopy(nchw), strict=True)
        for batch in (int(size) for size in batch_sizes.split(",")):
            x = torch.randn(batch, 3, 224, 224)
            y = x.to(memory_format=torch.channels_last)
            with torch.inference_mode():
                # Each gets the input as its memory format wants it; the patched one as users do.
                times = interleave(
                    {
                        "stock_nchw": partial(nchw, x),
                        "stock_channels_last": partial(nhwc, y),
                        "patched": partial(patched, x),
                    },
                    seconds,
                )
            best = min(times["stock_nchw"]["median"], times["stock_channels_last"]["median"])
            # Above 1: the patched model is faster than the better stock memory format.
            ratio = best / times["patched"]["median"]
            rows.append({"model": name, "batch_size": batch, "ratio": ratio, **times})
            table.add_row(
                name,
                str(batch),
                *(f"{times[k]['median']:.1f}" for k in times),
                f"{ratio:.2f}",
            )
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('models_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
