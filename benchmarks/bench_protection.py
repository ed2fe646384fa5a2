"""What catching functional calls costs a batch-1 forward: a patched model beside the same with its
own code left stock (its layers patched all the same), interleaved in one run. `strict` is what
`patch(strict=True)` costs, which looks at every operator that runs.

python -m benchmarks.bench_protection [--models mobilenetv3_small_050,resnet18]
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any

import timm
import torch
import typer
from rich.console import Console
from rich.table import Table

import bninv
from benchmarks.common.caught import caught_calls
from benchmarks.common.harness import interleave, write
from bninv.dispatch import Protected
from bninv.modules.base import stock_class

MODELS = (
    "resnet18,resnet50,densenet121,mobilenetv2_100,mobilenetv3_small_050,mobilenetv3_large_100,"
    "efficientnet_b0,regnety_016"
)


def main(
    models: Annotated[str, typer.Option(help="timm names, comma-separated")] = MODELS,
    seconds: Annotated[float, typer.Option(help="time for each model, in all")] = 20.0,
    write_results: Annotated[bool, typer.Option(help="write results/protection_cpu.json")] = True,
) -> None:
    table = Table(title="a batch-1 forward, medians")
    for column in ("model", "caught calls", "unprotected ms", "protected", "strict"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows: list[dict[str, Any]] = []
    for name in models.split(","):
        torch.manual_seed(0)
        protected = bninv.patch(timm.create_model(name).eval(), fuse=False)
        strict = bninv.patch(copy.deepcopy(protected), strict=True, fuse=False)
        unprotected = copy.deepcopy(protected)
        for module in unprotected.modules():
            if isinstance(module, Protected):
                module.__class__ = stock_class(module)
        candidates = {"unprotected": unprotected, "protected": protected, "strict": strict}
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            calls = len(caught_calls(partial(protected, x)))
            times = interleave({k: partial(m, x) for k, m in candidates.items()}, seconds)
        medians = {k: times[k]["median"] for k in times}
        cost = {k: medians[k] / medians["unprotected"] - 1 for k in ("protected", "strict")}
        rows.append(
            {
                "model": name,
                "caught_calls": calls,
                **{f"{k}_cost": round(v, 4) for k, v in cost.items()},
                **times,
            }
        )
        table.add_row(
            name,
            str(calls),
            f"{medians['unprotected']:.3f}",
            *(f"{v:+.1%}" for v in cost.values()),
        )
    Console().print(table)
    if write_results:
        Console().print(f"written to {write('protection_cpu', rows)}")


if __name__ == "__main__":
    typer.run(main)
