"""Half precision against float32 in bninv's own operators: each layer in every dtype, interleaved.

python -m benchmarks.bench_dtypes
BNINV_CPU_CAPABILITY=avx2 python -m benchmarks.bench_dtypes --no-write-results
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common.harness import interleave, write
from bninv import functional as F
from bninv._memory_format import panel_order

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Input and output features: the heads of ResNet-50, EfficientNet-B0 and ResNet-18, an excitation's
# layer, and the square one of a transformer, whose panel rows are a power of two apart.
LINEAR = [(2048, 1000), (1280, 1000), (512, 1000), (256, 64), (1024, 1024)]
ROWS = [1, 2, 4, 8, 16, 64]

# channels, size, out channels, kernel, stride, groups
CONVOLUTIONS = [
    (64, 56, 64, 3, 1, 1),
    (256, 56, 64, 1, 1, 1),
    (512, 28, 128, 1, 1, 1),
    (256, 14, 256, 3, 1, 1),
    (512, 7, 2048, 1, 1, 1),
    (128, 56, 128, 3, 1, 32),
    (256, 28, 256, 3, 1, 32),
    (1024, 7, 1024, 3, 1, 32),
    (144, 56, 144, 3, 1, 144),
    (672, 14, 672, 5, 1, 672),
]


def layers(batch_sizes: list[int]) -> Iterator[tuple[str, Tensor, Tensor, tuple[Any, ...]]]:
    """What a row is called, an input, a weight, and the arguments after them."""
    for features, out in LINEAR:
        for rows in ROWS:
            x, weight = torch.randn(rows, features), torch.randn(out, features)
            yield f"linear {features} -> {out}, {rows} rows", x, weight, (torch.randn(out),)
    for channels, size, out, kernel, stride, groups in CONVOLUTIONS:
        for batch in batch_sizes:
            x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
            weight = torch.randn(out, channels // groups, kernel, kernel)
            name = f"{channels} -> {out}, {kernel}x{kernel} / {stride}, {size}x{size}"
            name += f", {groups} groups" if groups > 1 else ""
            yield f"conv2d {name}, batch {batch}", x, weight, (None, stride, kernel // 2, 1, groups)


def run_of(
    dtype: torch.dtype, x: Tensor, weight: Tensor, args: tuple[Any, ...]
) -> Callable[[], Tensor]:
    """The operator in `dtype`, its weight laid out as `patch` does."""
    order = panel_order(weight)
    inverse = [order.index(d) for d in range(weight.dim())]
    panel = weight.to(dtype).permute(order).contiguous().permute(inverse)
    function = F.linear if weight.dim() == 2 else F.conv2d
    rest = (a.to(dtype) if isinstance(a, Tensor) else a for a in args)
    return partial(function, x.to(dtype), panel, *rest)


def main(
    batch_sizes: Annotated[str, typer.Option(help="of convolutions, comma-separated")] = "1",
    seconds: Annotated[float, typer.Option(help="time for each row, in all")] = 1.0,
    threads: Annotated[int, typer.Option(help="0: PyTorch's default")] = 0,
    write_results: Annotated[bool, typer.Option(help="write results/dtypes_cpu.json")] = True,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    sizes = [int(size) for size in batch_sizes.split(",")]
    table = Table(title="bninv's speed in half precision to its own in float32 (medians)")
    for column in ("layer", "float32 µs", "float16", "bfloat16"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for layer, x, weight, args in layers(sizes):
            runs = {name: run_of(dtype, x, weight, args) for name, dtype in DTYPES.items()}
            times = interleave(runs, seconds)
            base = times["float32"]["median"]
            ratios = {name: base / times[name]["median"] for name in ("float16", "bfloat16")}
            rows.append({"layer": layer, "ratio": ratios, **times})
            table.add_row(layer, f"{base * 1e3:.0f}", *(f"{r:.2f}" for r in ratios.values()))
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('dtypes_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
