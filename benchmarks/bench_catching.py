"""What catching a transformer's own calls costs a batch-1 forward. Every call that the protection
catches in one forward is kept and made again, with its arguments: caught, and straight as what the
table makes of it, in turns with the forward itself. The difference is what looking it up costs.

(`bench_protection` leaves a model's own code stock instead, which is no measure where that code
is attention: it would run other kernels.)

python -m benchmarks.bench_catching [--models vit_small_patch16_224,...] [--threads 1]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import timm
import torch
import typer
from rich.console import Console
from rich.table import Table

import bninv
from benchmarks.common.caught import Call, caught_calls
from benchmarks.common.harness import digits, interleave, write
from bninv.dispatch import table as rows

MODELS = (
    "vit_small_patch16_224,deit_tiny_patch16_224,swin_tiny_patch4_window7_224,mobilevit_xxs,"
    "convnext_tiny"
)


def straight(calls: list[Call]) -> Callable[[], None]:
    """The calls as what the table makes of them."""
    found = [rows.row_of(function) for function, _, _ in calls]
    adapters = [None if row is None else row.adapter for row in found]
    made = [(adapter or call[0], *call[1:]) for adapter, call in zip(adapters, calls, strict=True)]

    def run() -> None:
        for function, args, kwargs in made:
            function(*args, **kwargs)

    return run


def caught(calls: list[Call]) -> Callable[[], None]:
    """The calls under the protection."""

    def run() -> None:
        with bninv.invariant():
            for function, args, kwargs in calls:
                function(*args, **kwargs)

    return run


def main(
    models: Annotated[str, typer.Option(help="timm names, comma-separated")] = MODELS,
    seconds: Annotated[float, typer.Option(help="time for each model, in all")] = 20.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
    write_results: Annotated[bool, typer.Option(help="write results/catching_cpu.json")] = True,
) -> None:
    torch.set_num_threads(threads)
    table = Table(title="a batch-1 forward, medians")
    for column in ("model", "caught calls", "forward ms", "catching ms", "share"):
        table.add_column(column, justify="left" if column == "model" else "right")
    found: list[dict[str, Any]] = []
    for name in models.split(","):
        torch.manual_seed(0)
        model = bninv.patch(timm.create_model(name).eval())
        config: Any = model.default_cfg
        image = torch.randn(1, *config["input_size"])
        with torch.inference_mode():
            forward: Callable[[], Any] = partial(model, image)
            forward()  # chains are made
            calls = caught_calls(forward)
            runs = {"forward": forward, "caught": caught(calls), "straight": straight(calls)}
            times = interleave(runs, seconds)
        cost = times["caught"]["median"] - times["straight"]["median"]
        share = cost / times["forward"]["median"]
        found.append({"model": name, "calls": len(calls), "share": digits(share, 3), **times})
        whole = times["forward"]["median"]
        table.add_row(name, str(len(calls)), f"{whole:.3f}", f"{cost:.3f}", f"{share:.1%}")
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('catching_cpu', found)}")


if __name__ == "__main__":
    typer.run(main)
