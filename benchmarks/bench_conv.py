"""The convolution shapes of ResNet-50, ResNeXt and a depthwise network against stock channels_last,
interleaved in one run.

    python benchmarks/bench_conv.py [--batch-sizes 1,8] [--dtype bfloat16]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
import typer
from harness import interleave, write
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


def main(
    batch_sizes: Annotated[str, typer.Option(help="comma-separated")] = "1,8",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 1.5,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    dtype: Annotated[str, typer.Option(help="another one is timed beside float32")] = "float32",
    write_results: Annotated[bool, typer.Option(help="write results/conv_cpu.json")] = True,
) -> None:
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
            shape = f"{channels} -> {out}, {kernel}x{kernel} / {stride}, {size}x{size}"
            shape += f", {groups} groups" if groups > 1 else ""
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
