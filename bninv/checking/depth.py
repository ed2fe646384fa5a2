"""The difference over depth: at which modules a sample's bits move, and how far they get.

One sample runs alone, then in a batch in which it stands first, in the middle and last, between
other samples. What every module, leaf or block, gave to it there is compared with what it gave to
it alone. Unlike blame, this is cumulative: a difference is carried on by all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bninv._structure import leaves
from bninv.checking.arrangements import build_batch
from bninv.checking.inputs import call_model, count
from bninv.testing import different_bits


@dataclass
class DepthRow:
    """What one call of a module gave to the same sample alone and in a batch.

    `index` counts the calls in the order in which they returned, so that a block comes after what
    is in it and the model itself, whose name is empty, last. `differing` of `elements` had other
    bits. `max_rel` is the largest absolute difference over the largest finite output of the call;
    infinite where a number stands against NaN or Inf.
    """

    index: int
    module: str
    kind: str
    leaf: bool
    differing: int
    elements: int
    max_rel: float


def measure_depth(
    model: nn.Module,
    inputs: Any,
    batch_size: int,
    grad_mode: Callable[[], AbstractContextManager[Any]] = torch.no_grad,
) -> list[DepthRow]:
    """Compare every module's output for the first sample, alone and in a batch of 2 or more.

    `inputs` are two samples or more. A module called several times has a row for each call. Left
    out are calls that did not happen in both runs, and outputs of which no part belongs to the
    sample. Memory: all outputs of all modules for one sample, on the CPU.
    """
    slots = [1 + index % (count(inputs) - 1) for index in range(batch_size)]
    # Half of a small batch at most: it is to have neighbours.
    positions = sorted({0, batch_size // 2, batch_size - 1})[-(batch_size // 2) :]
    for position in positions:
        slots[position] = 0
    alone: dict[tuple[str, int], list[Tensor]] = {}

    def keep(name: str, call: int, module: nn.Module, outputs: list[Tensor]) -> None:
        # A copy: what follows may work in place.
        alone[name, call] = [tensor.detach().to("cpu", copy=True) for tensor in outputs]

    rows: list[DepthRow] = []

    def compare(name: str, call: int, module: nn.Module, outputs: list[Tensor]) -> None:
        expected = alone.pop((name, call), [])
        parts = _parts(expected, outputs, batch_size, positions)
        if parts:
            leaf = next(module.children(), None) is None
            kind = type(module).__name__
            rows.append(DepthRow(len(rows), name, kind, leaf, *_compared(expected, parts)))

    for batch, record in ((build_batch(inputs, [0]), keep), (build_batch(inputs, slots), compare)):
        with grad_mode(), after_every_module(model, record):
            call_model(model, batch)
    return rows


@contextmanager
def after_every_module(model: nn.Module, record: Callable[..., None]) -> Iterator[None]:
    """Call `record(name, call, module, outputs)` after each call of a module, with its tensors."""
    calls: dict[str, int] = {}

    def hook(name: str) -> Any:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            call = calls[name] = calls.get(name, -1) + 1
            record(name, call, module, [tensor for _, tensor in leaves(output)])

        return after

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts(
    alone: list[Tensor], outputs: list[Tensor], batch_size: int, positions: list[int]
) -> list[list[Tensor]]:
    """The sample's part of `outputs` at every position; none where it cannot be told."""
    if not alone or len(alone) != len(outputs):
        return []
    dims = [_batch_dim(a, b, batch_size) for a, b in zip(alone, outputs, strict=True)]
    if None in dims:
        return []
    return [
        [
            whole if dim == -1 else whole.narrow(dim, place * one.shape[dim], one.shape[dim])
            for dim, one, whole in zip(dims, alone, outputs, strict=True)
            if dim is not None
        ]
        for place in positions
    ]


def _batch_dim(one: Tensor, whole: Tensor, batch_size: int) -> int | None:
    """The dimension along which `whole` holds `batch_size` times `one`; -1 if they are as large.

    That is the batch's dimension, or one it was merged into, like the windows of a Swin model.
    """
    if one.dim() != whole.dim() or one.dtype != whole.dtype:
        return None
    grown = [d for d in range(one.dim()) if one.shape[d] != whole.shape[d]]
    if not grown:
        return -1
    fits = len(grown) == 1 and whole.shape[grown[0]] == batch_size * one.shape[grown[0]]
    return grown[0] if fits else None


def _compared(alone: list[Tensor], parts: list[list[Tensor]]) -> tuple[int, int, float]:
    """How many elements moved at any position, of how many, and the largest relative distance."""
    differing, max_rel = 0, 0.0
    for number, one in enumerate(alone):
        moved: Tensor | None = None
        for tensors in parts:
            part = tensors[number].detach().cpu()
            here = different_bits(one, part)
            if here.any():
                moved = here if moved is None else moved | here
                max_rel = max(max_rel, _distance(one[here], part[here]) / _scale(one))
        differing += 0 if moved is None else int(moved.sum())
    return differing, sum(one.numel() for one in alone), max_rel


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest |a - b|; infinite if there is a NaN."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    largest = float((a.to(wide) - b.to(wide)).abs().max())
    return math.inf if math.isnan(largest) else largest


def _scale(tensor: Tensor) -> float:
    sizes = (
        tensor.abs() if tensor.is_floating_point() or tensor.is_complex() else tensor.double().abs()
    )
    sizes = sizes[sizes.isfinite()]
    largest = float(sizes.max()) if sizes.numel() else 0.0
    # Without a finite number, or with zeros only, the distance itself.
    return largest if largest > 0 else 1.0
