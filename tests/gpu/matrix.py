"""Stages "matrix-quick" and "matrix": whole patched models have one set of bits per sample.

The CPU computes a few samples once. On the device the same samples lie at random positions of
batches of every size, among random images and among NaN, under every setting that moves the bits
of stock PyTorch: each must give the bits of the CPU.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.bits import difference
from bninv.loading.calibration import calibrate_batch_norm, randomize_constants
from tests.gpu.device import Device, Run, math_settings
from tests.gpu.record import Row

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Plan:
    """Which models, in which batches."""

    models: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    side: int  # pixels
    samples: int  # that the CPU computes, too
    settings_batch: int = 8  # of the runs under other settings; 0: none
    dtypes: tuple[torch.dtype, ...] = DTYPES


PLANS = {
    ("cuda", "quick"): Plan(("resnet50",), (1, 3, 32), 224, 2, 0, (torch.float32,)),
    ("cuda", ""): Plan(
        (
            *("resnet34", "resnet50", "mobilenetv3_large_100"),
            *("efficientnet_b0", "regnety_016", "densenet121"),
        ),
        (1, 2, 3, 8, 32, 64, 256),
        224,
        3,
    ),
    ("emulated", "quick"): Plan(("test_resnet",), (1, 3), 32, 1, 0, (torch.float32,)),
    ("emulated", ""): Plan(("test_resnet",), (1, 2, 3), 32, 1, 2, (torch.float32, torch.bfloat16)),
}


@functools.cache
def stock_model(name: str, side: int) -> nn.Module:
    """Random weights that behave like trained ones; on the CPU, the same on every machine."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    randomize_constants(model)
    # Smaller ones leave statistics of so few values that float16 overflows later on.
    images = torch.randn(4, 3, min(side, 128), min(side, 128), generator=seeded(4))
    threads = torch.get_num_threads()
    # In float64, for which PyTorch has depthwise convolutions of a thousand small parallel loops.
    torch.set_num_threads(1)
    try:
        calibrate_batch_norm(model, images)
    finally:
        torch.set_num_threads(threads)
    return model


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fusions() -> tuple[bool | None, ...]:
    """`patch`'s `fuse`, both ways; None where it has no such argument."""
    return (True, False) if "fuse" in inspect.signature(bninv.patch).parameters else (None,)


def patched(name: str, side: int, dtype: torch.dtype, fuse: bool | None) -> nn.Module:
    options: dict[str, Any] = {} if fuse is None else {"fuse": fuse}
    model = copy.deepcopy(stock_model(name, side)).to(dtype)
    return bninv.patch(model, strict=True, **options)


@dataclass
class Tally:
    """Results compared with the CPU's, and the first that differed."""

    compared: int = 0
    differed: int = 0
    first: str = ""

    def add(self, actual: Tensor, expected: Tensor, where: str) -> None:
        self.compared += 1
        found = difference(actual, expected)
        if found.moved.any():
            self.differed += 1
            self.first = self.first or (
                f"{where}: {int(found.moved.sum())} of {found.moved.size} outputs, "
                f"by up to {found.max_abs:.3g}"
            )


def planted(
    samples: Tensor, batch: int, fill: str, place: torch.device, rng: random.Random
) -> tuple[Tensor, dict[int, int]]:
    """A batch on the device, in either memory format; and position -> sample."""
    shape = (batch, *samples.shape[1:])
    if fill == "NaN":
        x = torch.full(shape, float("nan"), dtype=samples.dtype, device=place)
    else:
        x = torch.randn(shape, device=place).to(samples.dtype)
    chosen = rng.sample(range(batch), min(batch, len(samples)))
    where = dict(zip(chosen, rng.sample(range(len(samples)), len(chosen)), strict=True))
    for position, sample in where.items():
        x[position].copy_(samples[sample])
    if rng.random() < 0.5:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, where


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def settings(device: Device) -> dict[str, Callable[[Run, Tensor], Tensor]]:
    """How a model is run, by what is said of it."""

    def under(context: Callable[[], Any]) -> Callable[[Run, Tensor], Tensor]:
        def run(model: Run, x: Tensor) -> Tensor:
            with context():
                return model(x)

        return run

    return {
        "cuDNN off": under(functools.partial(math_settings, cudnn=False)),
        "TF32 allowed": under(functools.partial(math_settings, tf32=True)),
        "cudnn.benchmark": under(functools.partial(math_settings, benchmark=True)),
        "deterministic algorithms": under(_deterministic),
        "a side stream": device.on_side_stream,
        "a CUDA graph": device.in_graph,
    }


def run_everywhere(
    device: Device, plan: Plan, model: Run, samples: Tensor, expected: Tensor, rng: random.Random
) -> Tally:
    """The model on the device in every batch and under every setting, against `expected`."""
    tally = Tally()

    def check(run: Run, batch: int, fill: str, label: str) -> None:
        x, positions = planted(samples, batch, fill, device.place, rng)
        result = run(x).cpu()
        for position, sample in positions.items():
            tally.add(result[position], expected[sample], f"{label}, position {position}")

    for batch in plan.batch_sizes:
        for fill in ("random", "NaN") if batch > 1 else ("random",):
            check(model, batch, fill, f"batch {batch} of {fill}")
    if plan.settings_batch:
        for label, run in settings(device).items():
            check(functools.partial(run, model), plan.settings_batch, "random", label)
    return tally


def compare(device: Device, plan: Plan, name: str, dtype: torch.dtype, fuse: bool | None) -> Row:
    """One patched model in one dtype."""
    rng = random.Random(f"{name} {dtype}")
    net = patched(name, plan.side, dtype, fuse)
    samples = torch.randn(plan.samples, 3, plan.side, plan.side, generator=seeded(7)).to(dtype)
    with torch.inference_mode():
        expected = net(samples)
        tally = run_everywhere(device, plan, device.model(net), samples, expected, rng)
    device.release()
    return row(tally, expected)


def row(tally: Tally, expected: Tensor) -> Row:
    """What came of it. Outputs that are NaN, or the same for every image, would prove nothing."""
    telling = bool(expected.isfinite().all()) and bool(expected.std(-1).gt(0).all())
    if len(expected) > 1:
        telling = telling and bool((expected[0] != expected[1]).any())
    return {
        "ok": telling and tally.differed == 0,
        "compared": tally.compared,
        "differed": tally.differed,
        "first": tally.first or ("" if telling else "the outputs say nothing"),
    }


def prepare_determinism() -> None:
    """What cuBLAS asks for under deterministic algorithms; read when it is first used."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    plan = PLANS[device.name, variant]
    prepare_determinism()
    found: dict[str, Callable[[], Row]] = {}
    for name in plan.models:
        for dtype in plan.dtypes:
            for fuse in fusions():
                how = "" if fuse is None else ", fused" if fuse else ", not fused"
                label = f"{name} {str(dtype).removeprefix('torch.')}{how}"
                found[label] = functools.partial(compare, device, plan, name, dtype, fuse)
    return found
