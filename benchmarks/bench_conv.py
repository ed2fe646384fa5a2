"""The convolution shapes of ResNet-50, ResNeXt and a depthwise network against stock channels_last,
interleaved in one run; on CUDA against stock in both memory formats, with TF32 and without.

    python benchmarks/bench_conv.py [--device cuda] [--batch-sizes 1,8] [--dtype bfloat16]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import cuda_timing
import stock_cudnn
import torch
import typer
from harness import RESULTS, interleave, write
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bninv import functional as F
from bninv._memory_format import panel_order

# channels, size, out channels, kernel, stride, groups
SHAPES = [
    (3, 224, 64, 7, 2, 1),
    (64, 56, 64, 1, 1, 1),
    (64, 56, 64, 3, 1, 1),
    (64, 56, 256, 1, 1, 1),
    (256, 56, 64, 1, 1, 1),
    (128, 56, 128, 3, 2, 1),
    (128, 28, 512, 1, 1, 1),
    (512, 28, 128, 1, 1, 1),
    (128, 28, 128, 3, 1, 1),
    (256, 14, 256, 3, 1, 1),
    (1024, 14, 256, 1, 1, 1),
    (512, 7, 512, 3, 1, 1),
    (512, 7, 2048, 1, 1, 1),
    (128, 56, 128, 3, 1, 32),
    (256, 28, 256, 3, 1, 32),
    (1024, 7, 1024, 3, 1, 32),
    (144, 56, 144, 3, 1, 144),
    (672, 14, 672, 5, 1, 672),
]


def candidates(
    x: Tensor, weight: Tensor, args: tuple[Any, ...], dtype: torch.dtype
) -> dict[str, Callable[[], Tensor]]:
    """Stock and bninv in `dtype`; beside another dtype than float32 also bninv in float32."""
    order = panel_order(weight)
    inverse = [order.index(d) for d in range(4)]

    def ours(dtype: torch.dtype) -> Callable[[], Tensor]:
        panel = weight.to(dtype).permute(order).contiguous().permute(inverse)
        return partial(F.conv2d, x.to(dtype), panel, *args)

    stock_weight = weight.to(dtype).to(memory_format=torch.channels_last)
    found = {"stock": partial(torch.conv2d, x.to(dtype), stock_weight, *args), "bninv": ours(dtype)}
    return found if dtype == torch.float32 else {**found, "bninv float32": ours(torch.float32)}


def describe(channels: int, size: int, out: int, kernel: int, stride: int, groups: int) -> str:
    shape = f"{channels} -> {out}, {kernel}x{kernel} / {stride}, {size}x{size}"
    return shape + (f", {groups} groups" if groups > 1 else "")


def measure_cuda(
    batch: int, shape: tuple[int, ...], dtype: torch.dtype, seconds: float
) -> tuple[int, dict[str, dict[str, float]]]:
    """Floating-point operations, and milliseconds of stock in each setting and of bninv."""
    channels, size, out, kernel, stride, groups = shape
    args = (None, stride, kernel // 2, 1, groups)
    weight = torch.randn(out, channels // groups, kernel, kernel, device="cuda", dtype=dtype)
    order = panel_order(weight)
    panel = weight.permute(order).contiguous().permute([order.index(d) for d in range(4)])
    weights = {False: weight, True: weight.to(memory_format=torch.channels_last)}

    def stock(channels_last: bool) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.conv2d(x, weights[channels_last], *args)

    runs = dict(stock_cudnn.candidates(dtype, {last: stock(last) for last in weights}))
    runs["bninv"] = lambda nchw, channels_last: F.conv2d(channels_last, panel, *args)

    def tensors() -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, channels, size, size, device="cuda", dtype=dtype)
        return x, x.to(memory_format=torch.channels_last)

    first = tensors()
    y = runs["bninv"](*first)
    # A wrong result is not worth timing. Only about equal: stock rounds differently.
    tolerance = 64 * max(torch.finfo(dtype).eps, 2**-11) * (kernel * kernel * channels) ** 0.5
    torch.testing.assert_close(runs["stock NCHW"](*first), y, rtol=0, atol=tolerance)
    flop = 2 * y.numel() * channels // groups * kernel * kernel
    moved = first[0].nbytes + y.nbytes
    inputs = [first, *(tensors() for _ in range(cuda_timing.sets_past_l2(moved) - 1))]
    # Roughly: 50 TFLOP/s, 3 TB/s.
    expected = max(flop / 50e9, moved / 3e9, 0.002)
    return flop, cuda_timing.interleave(runs, inputs, seconds, expected)


def on_cuda(batch_sizes: list[int], dtypes: list[str], seconds: float, write_results: bool) -> None:
    rows: list[dict[str, Any]] = []
    for dtype in dtypes:
        names = [*stock_cudnn.settings(getattr(torch, dtype)), "bninv"]
        table = Table(title=f"TFLOP/s (median), {dtype}")
        for column in ("batch", "shape", *names, "to the best IEEE stock"):
            table.add_column(column, justify="left" if column == "shape" else "right")
        for batch in batch_sizes:
            for shape in SHAPES:
                with torch.inference_mode():
                    flop, times = measure_cuda(batch, shape, getattr(torch, dtype), seconds)
                rate = {name: flop / t["median"] / 1e9 for name, t in times.items()}
                # TF32 has its own columns: it is another arithmetic.
                best = max(r for name, r in rate.items() if name != "bninv" and "TF32" not in name)
                row = {"dtype": dtype, "batch_size": batch, "shape": describe(*shape)}
                ratio = rate["bninv"] / best
                rows.append({**row, "ratio": ratio, "tflops": rate, "milliseconds": times})
                cells = (f"{rate[name]:.1f}" for name in names)
                table.add_row(str(batch), row["shape"], *cells, f"{ratio:.2f}")
        Console().print(table)
    if write_results:
        folder = RESULTS / cuda_timing.slug()
        Console().print(f"written to {write('conv', rows, folder, cuda_timing.describe())}")


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    batch_sizes: Annotated[str, typer.Option(help="default: 1,8, on CUDA 1,32")] = "",
    seconds: Annotated[
        float, typer.Option(help="time for each row, in all; default: 1.5, on CUDA 0.1")
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    dtype: Annotated[
        str, typer.Option(help="on the CPU timed beside float32; on CUDA: default all three")
    ] = "",
    write_results: Annotated[bool, typer.Option(help="write a JSON file in results/")] = True,
) -> None:
    if device == "cuda":
        if not torch.cuda.is_available():
            raise typer.BadParameter("torch finds no GPU", param_hint="--device")
        batches = [int(size) for size in (batch_sizes or "1,32").split(",")]
        dtypes = (dtype or "float32,float16,bfloat16").split(",")
        on_cuda(batches, dtypes, seconds or 0.1, write_results)
        return
    batch_sizes, seconds, dtype = batch_sizes or "1,8", seconds or 1.5, dtype or "float32"
    if threads:
        torch.set_num_threads(threads)
    chosen = getattr(torch, dtype)
    names = ["stock", "bninv"] + (["bninv float32"] if dtype != "float32" else [])
    table = Table(title=f"GFLOP/s (median), {dtype}")
    for column in ("batch", "shape", *names, *(f"to {name}" for name in names if name != "bninv")):
        table.add_column(column, justify="left" if column == "shape" else "right")
    rows: list[dict[str, Any]] = []
    for batch in (int(size) for size in batch_sizes.split(",")):
        for channels, size, out, kernel, stride, groups in SHAPES:
            x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
            weight = torch.randn(out, channels // groups, kernel, kernel)
            with torch.inference_mode():
                runs = candidates(x, weight, (None, stride, kernel // 2, 1, groups), chosen)
                y = runs["bninv"]()
                times = interleave(runs, seconds)
            flop = 2 * y.numel() * channels // groups * kernel * kernel
            rate = {name: flop / t["median"] / 1e6 for name, t in times.items()}
            ratios = {name: rate["bninv"] / rate[name] for name in names if name != "bninv"}
            shape = describe(channels, size, out, kernel, stride, groups)
            rows.append(
                {
                    "batch_size": batch,
                    "shape": shape,
                    "ratio": ratios["stock"],
                    "gflops": rate,
                    **times,
                }
            )
            table.add_row(
                str(batch),
                shape,
                *(f"{rate[name]:.0f}" for name in names),
                *(f"{ratio:.2f}" for ratio in ratios.values()),
            )
    Console().print(table)
    if write_results:
        suffix = "" if dtype == "float32" else f"_{dtype}"
        Console().print(f"written to {write(f'conv_cpu{suffix}', rows)}")


if __name__ == "__main__":
    typer.run(main)
