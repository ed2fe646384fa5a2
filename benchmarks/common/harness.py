"""Interleaved timing: the candidates take turns within one run, so that drift hits all alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import json_file
from benchmarks.common.places import RESULTS
from bninv.building import extension


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    seconds: float,
    least: int = 5,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Run the candidates in turn for about `seconds` in all; milliseconds of each by `clock`.

    Of one thread on a machine that others use, `time.process_time` is the time that it worked.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(warmup):
        for run in candidates.values():
            run()
    start = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - start < seconds:
        for name, run in candidates.items():
            before = clock()
            run()
            times[name].append((clock() - before) * 1e3)
        rounds += 1
    return {name: summarize(values) for name, values in times.items()}


def summarize(values: list[float]) -> dict[str, float]:
    """Median and quartiles, to the five digits that a timing can have at most.

    Quartiles tell how noisy the machine was; quote medians, and ratios of medians of one run.
    """
    low, median, high = (digits(q) for q in statistics.quantiles(values, n=4))
    return {"median": median, "low": low, "high": high, "runs": len(values)}


def digits(value: float, count: int = 5) -> float:
    return float(f"{value:.{count}g}")


def machine() -> dict[str, Any]:
    """What a reader needs to place the figures."""
    extension.load()
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        cpu = next((v.strip() for k, v in fields.items() if k.strip() == "model name"), cpu)
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "stock_capability": torch.backends.cpu.get_cpu_capability(),
        "bninv_capability": torch.ops.bninv._cpu_capability(),
        "torch": torch.__version__,
    }


def write(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows, one to a line, to results/NAME.json with the machine's description."""
    path = RESULTS / f"{name}.json"
    json_file.write(path, {"machine": machine(), "rows": rows})
    return path
