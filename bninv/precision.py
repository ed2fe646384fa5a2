"""Products on tensor cores (rule R9): which class a device has, and a class for the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

from bninv._shown import short, shown

# R9's own version: of the rule, and of the two classes of arithmetic that it names.
TENSOR_CONTRACT_VERSION = 1

Arithmetic = Literal["ieee", "tensor-A", "tensor-H"]


def arithmetic(device: torch.device | str | int) -> Arithmetic:
    """What the tensor cores of a device compute: the class that `precision="tensor"` means there.

    Args:
        device: as `torch.device` takes it.

    Returns:
        'tensor-A' for GPUs of compute capability 8.x, 'tensor-H' for 9.0, 10.x and 12.x, and 'ieee'
        for all others, and for a CPU: those have no `precision="tensor"`.

    Raises:
        ValueError: `device` is none, or names a GPU that is not there.
    """
    try:
        place = torch.device(device)
        if place.type != "cuda":
            return "ieee"
        major, _ = torch.cuda.get_device_capability(place)
    except (AssertionError, RuntimeError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"`device` is {shown(device)}; it may be a torch.device that this machine has "
            f"({short(why)})"
        ) from None
    if major == 8:
        return "tensor-A"
    return "tensor-H" if major in (9, 10, 12) else "ieee"


def meaning(precision: str, device: torch.device) -> str:
    """The arithmetic that a word of `precision` means on a device, in this thread."""
    if precision != "tensor":
        return precision
    if device.type == "cuda":
        return arithmetic(device)
    return str(torch.ops.bninv._emulated_arithmetic())


@contextlib.contextmanager
def emulate(arithmetic: Literal["tensor-A", "tensor-H"]) -> Iterator[None]:
    """Within it, `precision="tensor"` on CPU tensors gives the bits of GPUs of one class, slowly.

    >>> with bninv.emulate("tensor-H"):
    ...     y = bninv.functional.conv2d(x, weight, precision="tensor")  # as on an H100, bit for bit

    It holds for the calling thread, nests, and ends with the former state whatever is raised. The
    operators look at it when they run: a compiled or exported program keeps the word 'tensor'.

    Args:
        arithmetic: 'tensor-A' (GPUs 8.x) or 'tensor-H' (9.0, 10.x, 12.x); `bninv.arithmetic` says
            which a GPU has.

    Raises:
        ValueError: `arithmetic` is something else.
    """
    if arithmetic not in ("tensor-A", "tensor-H"):
        raise ValueError(f"`arithmetic` is {shown(arithmetic)}; it may be 'tensor-A' or 'tensor-H'")
    from bninv.building import extension

    extension.load()
    state: Any = torch.ops.bninv
    former = state._emulated_arithmetic()
    state._set_emulated_arithmetic(arithmetic)
    try:
        yield
    finally:
        state._set_emulated_arithmetic(former)
