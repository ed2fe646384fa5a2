"""Stage "autocast": patched models under torch.autocast have one set of bits per sample, too.

Samples alone on the device are what the batches are held against: autocast's lists of what is
computed in which type are other ones on a CPU. Whether the CPU's bits are the same all the same is
written down beside.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import torch
from torch import Tensor

from bninv.checking.bits import difference
from tests.gpu import matrix
from tests.gpu.device import Device
from tests.gpu.record import Row

PLANS = {
    "cuda": matrix.Plan(
        ("resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_pico"),
        (1, 2, 3, 8, 32, 64),
        224,
        3,
        dtypes=(torch.bfloat16, torch.float16),
    ),
    "emulated": matrix.Plan(("test_resnet",), (1, 2), 32, 2, 0, (torch.bfloat16,)),
}


def compare(device: Device, plan: matrix.Plan, name: str, dtype: torch.dtype) -> Row:
    """One patched float32 model under autocast to `dtype`."""
    rng = random.Random(f"autocast {name} {dtype}")
    net = matrix.patched(name, plan.side, torch.float32, True)
    samples = torch.randn(plan.samples, 3, plan.side, plan.side, generator=matrix.seeded(7))
    on_device = device.model(net)

    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.place.type, dtype):
            return on_device(x)

    with torch.inference_mode():
        alone = [run(sample.to(device.place)).cpu() for sample in samples.split(1)]
        expected = torch.cat(alone)
        tally = matrix.run_everywhere(device, plan, run, samples, expected, rng)
        with torch.autocast("cpu", dtype):
            on_cpu = net(samples)
    device.release()
    same = on_cpu.dtype == expected.dtype and not difference(on_cpu, expected).moved.any()
    return {**matrix.row(tally, expected), "dtype": str(expected.dtype), "equals_cpu": same}


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    plan = PLANS[device.name]
    matrix.prepare_determinism()
    return {
        f"{name} autocast to {str(dtype).removeprefix('torch.')}": functools.partial(
            compare, device, plan, name, dtype
        )
        for name in plan.models
        for dtype in plan.dtypes
    }
