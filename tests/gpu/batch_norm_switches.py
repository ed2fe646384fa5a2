"""Stock BatchNorm in eval mode by itself, on both sides of each of its switches.

PyTorch takes cuDNN's kernel or its own by the tensor as a whole: its dtype and its parameters', its
dimensions, more than 65535 samples (or 262136 rows of a matrix), 2^31 elements, offsets beyond 32
bits. Where a batch and one of its samples alone fall on two sides, the bits may differ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gpu.device import Device, math_settings
from tests.gpu.distance import Distance
from tests.gpu.record import Row

GIB = 2**30


@dataclass(frozen=True)
class Case:
    label: str
    shape: tuple[int, ...]
    # The second sample begins so many elements behind the first.
    apart: int = 0

    @property
    def elements(self) -> int:
        """That its memory has to hold."""
        return max(math.prod(self.shape), self.apart + math.prod(self.shape[1:]))


CASES = (
    Case("ordinary", (64, 64, 56, 56)),
    Case("a matrix", (256, 64)),
    Case("sequences", (64, 64, 50)),
    Case("volumes", (8, 16, 8, 14, 14)),
    Case("65535 samples", (65535, 4, 2, 2)),
    Case("65536 samples", (65536, 4, 2, 2)),
    Case("262136 rows", (262136, 4)),
    Case("262137 rows", (262137, 4)),
    Case("offsets past 2^31", (2, 64, 56, 56), apart=2**31),
    Case("2^31 elements", (2**31 // (64 * 56 * 56) + 1, 64, 56, 56)),
)
# Of the input, and of the parameters.
DTYPES = {
    "float32": (torch.float32, torch.float32),
    "float16": (torch.float16, torch.float16),
    "float16, float32 parameters": (torch.float16, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "bfloat16, float32 parameters": (torch.bfloat16, torch.float32),
}


def spaced(like: Tensor, shape: tuple[int, ...], apart: int) -> Tensor:
    """New memory in which each sample begins `apart` elements behind the one before it."""
    memory = like.new_empty(apart * (shape[0] - 1) + math.prod(shape[1:]))
    inner = torch.empty(shape[1:], device="meta").stride()
    return memory.as_strided(shape, (apart, *inner))


def tensor(case: Case, dtype: torch.dtype, channels_last: bool, place: torch.device) -> Tensor:
    generator = torch.Generator(device=place).manual_seed(3)
    if case.apart:
        x = spaced(torch.empty(0, dtype=dtype, device=place), case.shape, case.apart)
        return x.normal_(generator=generator)
    x = torch.empty(case.shape, dtype=dtype, device=place)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    return x.normal_(generator=generator)


def examine(device: Device, case: Case, dtypes: str, channels_last: bool, cudnn: bool) -> Row:
    dtype, parameter_dtype = DTYPES[dtypes]
    # The input, the result, and a copy of either that a kernel may make.
    needed = 3.2 * case.elements * dtype.itemsize
    if needed > device.free_bytes():
        return {"left_out": f"needs {needed / GIB:.0f} GiB of memory"}
    x = tensor(case, dtype, channels_last, device.place)
    generator = torch.Generator(device=device.place).manual_seed(5)
    parameters = torch.rand(4, case.shape[1], device=device.place, generator=generator) + 0.5
    mean, var, weight, bias = parameters.to(parameter_dtype)
    distance, moved = Distance(), []

    def run(x: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)

    with torch.inference_mode(), math_settings(cudnn=cudnn):
        whole = run(x)
        for label, part, own in parts(case, x, whole):
            if distance.add(own, run(part)):
                moved.append(label)
    del x, whole
    device.release()
    return {"moved": moved, **distance.row()}


def parts(case: Case, x: Tensor, whole: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """A name, a part of x in memory of its own, and what became of that part within the whole."""
    if case.apart:
        # One sample alone has no gap, and for a gap PyTorch has other kernels: a smaller one.
        near = spaced(x.new_empty(0), case.shape, 2 * math.prod(case.shape[1:]))
        yield "near each other", near.copy_(x), whole
        return
    for i in sorted({0, 1, len(x) // 2, len(x) - 1}):
        yield f"sample {i}", x[i : i + 1].clone(), whole[i : i + 1]
    for n in (2, 3, 8):
        if n < len(x):
            yield f"batch {n}", x[:n].clone(), whole[:n]


def work(device: Device) -> dict[str, Callable[[], Row]]:
    found: dict[str, Callable[[], Row]] = {}
    on_gpu = device.name == "cuda"
    for case in CASES:
        if device.name == "emulated" and case.elements > 2**16:
            continue
        for dtypes in DTYPES:
            for channels_last in (
                (False, True) if len(case.shape) == 4 and not case.apart else (False,)
            ):
                # On a CPU there is no cuDNN to switch off.
                for cudnn in (True, False) if on_gpu else (True,):
                    order = "channels_last" if channels_last else "contiguous"
                    label = f"batch_norm {case.label}, {dtypes}, {order}"
                    label += "" if cudnn else ", cuDNN off"
                    found[label] = functools.partial(
                        examine, device, case, dtypes, channels_last, cudnn
                    )
    return found
