"""What the machine can do, measured in the same run: a large float32 GEMM, and a large copy."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common.candidate import Switches
from benchmarks.common.harness import digits, summarize

RUNS = 20


def add_to(measured: dict[str, Any], device: str, *, gemm: bool = False) -> None:
    """What is not there yet: a resumed run goes on with the references of its beginning."""
    with torch.inference_mode():
        if "copy_gb_per_s" not in measured:
            measured["copy_gb_per_s"] = digits(copy_gb_per_s(device))
        if gemm and "gemm_tflops" not in measured:
            measured["gemm_tflops"] = digits(gemm_tflops(device))


def gemm_tflops(device: str) -> float:
    """Of torch.mm in IEEE float32, an fma counting as two."""
    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty_like(a)
    with Switches(tf32=False).on():
        return 2 * size**3 / median_ms(lambda: torch.mm(a, b, out=out), device) / 1e9


def copy_gb_per_s(device: str) -> float:
    """Bytes read plus bytes written, of a copy far larger than the caches."""
    size = 2**28
    if device == "cuda":
        size = min(2**30, torch.cuda.get_device_properties().total_memory // 8)
    # Not zeros: memory that compresses would copy faster than any tensor.
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / median_ms(lambda: target.copy_(source), device) / 1e6


def median_ms(run: Callable[[], Any], device: str) -> float:
    for _ in range(3):
        run()
    if device == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
        marks[0].record()
        for mark in marks[1:]:
            run()
            mark.record()
        torch.cuda.synchronize()
        times = [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]
    else:
        times = []
        for _ in range(RUNS):
            before = time.perf_counter()
            run()
            times.append((time.perf_counter() - before) * 1e3)
    return summarize(times)["median"]
