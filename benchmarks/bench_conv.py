"""The convolution shapes of ResNet-50, ResNeXt and a depthwise network against stock channels_last,
interleaved in one run.

    python benchmarks/bench_conv.py [--batch-sizes 1,8]
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import torch
import typer
from harness import interleave, write
from rich.console import Console
from rich.table import Table

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


def main(
    batch_sizes: Annotated[str, typer.Option(help="comma-separated")] = "1,8",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 1.5,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write results/conv_cpu.json")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table(title="GFLOP/s (median)")
    for column in ("batch", "shape", "stock", "bninv", "ratio"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    rows: list[dict[str, Any]] = []
    for batch in (int(size) for size in batch_sizes.split(",")):
        for channels, size, out, kernel, stride, groups in SHAPES:
            x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
            weight = torch.randn(out, channels // groups, kernel, kernel)
            stock_weight = weight.to(memory_format=torch.channels_last)
            order = panel_order(weight)
            panel = weight.permute(order).contiguous()
            panel = panel.permute([order.index(d) for d in range(4)])
            args = (None, stride, kernel // 2, 1, groups)
            with torch.inference_mode():
                y = F.conv2d(x, panel, *args)
                times = interleave(
                    {
                        "stock": partial(torch.conv2d, x, stock_weight, *args),
                        "bninv": partial(F.conv2d, x, panel, *args),
                    },
                    seconds,
                )
            flop = 2 * y.numel() * channels // groups * kernel * kernel
            rate = {name: flop / t["median"] / 1e6 for name, t in times.items()}
            ratio = rate["bninv"] / rate["stock"]
            shape = f"{channels} -> {out}, {kernel}x{kernel} / {stride}, {size}x{size}"
            shape += f", {groups} groups" if groups > 1 else ""
            rows.append(
                {"batch_size": batch, "shape": shape, "ratio": ratio, "gflops": rate, **times}
            )
            table.add_row(
                str(batch), shape, f"{rate['stock']:.0f}", f"{rate['bninv']:.0f}", f"{ratio:.2f}"
            )
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('conv_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
