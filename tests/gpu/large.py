"""Stage "large": bninv's operators on both sides of stock BatchNorm's switches, and past 2^31.

The tensors are those with which the stage "cause" looks at stock PyTorch: more samples than 65535,
more elements than 32 bits count, samples further apart than that. The whole of each is computed on
the device, and what became of some samples is held against the CPU's bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

import bninv
from bninv.checking.bits import difference
from tests.gpu import batch_norm_switches as switches
from tests.gpu.device import Device
from tests.gpu.record import Row


class BatchNorm(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        values = torch.rand(4, channels, generator=generator).add(0.5).to(dtype)
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        mean, var, weight, bias = self.values
        return bninv.functional.batch_norm(x, mean, var, weight, bias)


class Convolution(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        weight = torch.randn(channels, channels, 3, 3, generator=generator).to(dtype)
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return bninv.functional.relu(bninv.functional.conv2d(x, self.weight, padding=1))


KINDS: dict[str, type[nn.Module]] = {"batch_norm": BatchNorm, "conv2d and relu": Convolution}


def compare(
    device: Device, kind: str, case: switches.Case, dtypes: str, channels_last: bool
) -> Row:
    dtype, parameter_dtype = switches.DTYPES[dtypes]
    needed = 3.2 * case.elements * dtype.itemsize
    if needed > device.free_bytes():
        return {"ok": True, "left_out": f"needs {needed / switches.GIB:.0f} GiB of memory"}
    module = KINDS[kind](case.shape[1], parameter_dtype)
    x = switches.tensor(case, dtype, channels_last, device.place)
    compared, wrong = 0, []
    with torch.inference_mode():
        whole = device.model(module)(x)
        for label, part, own in switches.parts(case, x, whole):
            compared += 1
            expected = module(part.cpu())
            if difference(own.cpu(), expected).moved.any():
                wrong.append(label)
    del x, whole
    device.release()
    return {
        "ok": not wrong,
        "compared": compared,
        "differed": len(wrong),
        "first": ", ".join(wrong),
    }


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    found: dict[str, Callable[[], Row]] = {}
    for case in switches.CASES:
        if device.name == "emulated" and case.elements > 2**14:
            continue
        orders = (False, True) if len(case.shape) == 4 and not case.apart else (False,)
        past_32_bits = case.elements >= 2**31
        for kind in KINDS if past_32_bits and len(case.shape) == 4 else ["batch_norm"]:
            for dtypes, (dtype, parameters) in switches.DTYPES.items():
                if kind != "batch_norm" and dtype != parameters:
                    continue
                for channels_last in orders:
                    order = "channels_last" if channels_last else "contiguous"
                    found[f"{kind}, {case.label}, {dtypes}, {order}"] = functools.partial(
                        compare, device, kind, case, dtypes, channels_last
                    )
    return found
