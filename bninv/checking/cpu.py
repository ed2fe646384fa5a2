"""The patched model on the CPU: a copy of it there, and whether that has the GPU's bits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)

# Enough to tell; a GPU's user shall not wait for the CPU.
MOST_SAMPLES = 8


def copy_to_cpu(model: ModelT) -> ModelT:
    """A deep copy whose parameters and buffers are on the CPU, under their own strides.

    The device's memory holds none of it, and what is shared in the model is shared in the copy.

    Raises:
        MemoryError: the CPU's memory does not hold it.
    """
    tensors = [*model.parameters(), *model.buffers()]
    need_memory(tensors)
    # What deepcopy finds here it takes for copied already.
    memo: dict[int, Any] = {}
    for tensor in tensors:
        moved = tensor.detach().to("cpu", copy=True)
        if isinstance(tensor, nn.Parameter):
            moved = type(tensor)(moved, tensor.requires_grad)
        memo[id(tensor)] = moved
    # A TorchScript module copies itself, as it is.
    with torch.no_grad():
        return copy.deepcopy(model, memo).to("cpu")


def need_memory(tensors: list[Tensor]) -> None:
    """Raise MemoryError unless there is room for the tensors, twice.

    Linux promises memory that it does not have, and ends the process that then uses it. Twice,
    because activations need some as well: a guess.
    """
    needed = 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError


def available_memory() -> int | None:
    """The bytes that the machine can still give; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
