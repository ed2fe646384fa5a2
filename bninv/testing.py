"""Assertions for test suites, bninv's own and its users'."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bninv._shown import shown
from bninv._structure import leaves, map_tensors, tensors

_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def different_bits(actual: Tensor, expected: Tensor) -> Tensor:
    """A boolean tensor: True where the bits differ.

    A NaN equals any other NaN: that an element is NaN is part of the contract, its payload and sign
    are not. +0 and -0 differ.
    """
    if actual.is_complex():
        return different_bits(torch.view_as_real(actual), torch.view_as_real(expected)).any(-1)
    integer = _INTEGER[actual.element_size()]
    differ = actual.contiguous().view(integer) != expected.contiguous().view(integer)
    if actual.is_floating_point():
        differ &= ~(actual.isnan() & expected.isnan())
    return differ


def assert_bitwise_equal(actual: Tensor, expected: Tensor, msg: str = "") -> None:
    """Raise AssertionError unless both tensors have the same shape, dtype and bits.

    The message says how many elements differ, the first of them, and both values there. NaN
    payloads are ignored; devices may differ.
    """
    prefix = f"{msg}: " if msg else ""
    if actual.shape != expected.shape:
        raise AssertionError(f"{prefix}shape {list(actual.shape)} != {list(expected.shape)}")
    if actual.dtype != expected.dtype:
        raise AssertionError(f"{prefix}dtype {actual.dtype} != {expected.dtype}")
    a, b = actual.detach().cpu(), expected.detach().cpu()
    differ = different_bits(a, b)
    count = int(differ.sum())
    if count:
        index = tuple(differ.nonzero()[0].tolist())
        x, y = a[index].item(), b[index].item()
        values = f"{float(x).hex()} != {float(y).hex()}" if a.is_floating_point() else f"{x} != {y}"
        raise AssertionError(
            f"{prefix}{count} of {a.numel()} elements differ in bits; the first at "
            f"{list(index)}: {x} != {y} ({values})"
        )


def assert_batch_invariant(
    function: Callable[[Any], Any],
    input: Any,
    batch_sizes: Sequence[int] = (1, 2, 3, 8),
) -> None:
    """Raise AssertionError unless each sample's result has the same bits in every batch.

    Args:
        function: maps [batch, ...] to [batch, ...], sample by sample. It may take and give several
            tensors in dicts, lists, tuples and dataclasses; the message says which one moved.
        input: the samples, [batch, ...], at least one; or such a structure of tensors, which
            `function` is handed as one argument. Every sample is run alone, then in batches of each
            size, at several positions, among the others and among samples of NaN.
        batch_sizes: the sizes to try, each at least 1.
    """
    samples = _count(input)
    alone = [_result(function, _taken(input, [i])) for i in range(samples)]
    floating = any(tensor.is_floating_point() for tensor in tensors(input))
    for size in batch_sizes:
        if size < 1:
            raise ValueError(f"`batch_sizes` holds {size}; it may hold 1 and more")
        for i in range(samples):
            for position in {0, size // 2, size - 1}:
                others = [(i + 1 + j) % samples for j in range(size)]
                others[position] = i
                label = f"sample {i} at position {position} of {size}"
                batch = _taken(input, others)
                _assert_same(_result(function, batch), position, alone[i], label)
                if floating:
                    batch = map_tensors(
                        partial(_among_nan, position=position), _taken(input, others)
                    )
                    label += " among NaN"
                    _assert_same(_result(function, batch), position, alone[i], label)


def _taken(input: Any, samples: list[int]) -> Any:
    """A batch of the samples with these numbers."""
    return map_tensors(lambda tensor: tensor[samples], input)


def _count(input: Any) -> int:
    """How many samples there are."""
    found = list(leaves(input, "input"))
    if not found:
        raise TypeError(f"`input` is {shown(input)}; it may be a torch.Tensor, or hold some")
    for path, tensor in found:
        if tensor.dim() < 1 or tensor.size(0) < 1 or tensor.size(0) != found[0][1].size(0):
            raise ValueError(
                f"`{path}` has shape {list(tensor.shape)}; it may hold one sample and more, "
                "as many as the others"
            )
    return found[0][1].size(0)


def _result(function: Callable[[Any], Any], batch: Any) -> list[tuple[str, Tensor]]:
    output = function(batch)
    found = list(leaves(output, "" if isinstance(output, Tensor) else "output"))
    if not found:
        raise TypeError(
            f"`function` returned {shown(output)}; it may be a torch.Tensor, or hold some"
        )
    return found


def _among_nan(batch: Tensor, position: int) -> Tensor:
    """A batch whose other samples are NaN; integers, which know none, stay."""
    if not batch.is_floating_point():
        return batch
    filled = torch.full_like(batch, float("nan"))
    filled[position] = batch[position]
    return filled


def _assert_same(
    actual: list[tuple[str, Tensor]], position: int, alone: list[tuple[str, Tensor]], label: str
) -> None:
    if [path for path, _ in actual] != [path for path, _ in alone]:
        raise AssertionError(f"{label}: other outputs than alone: {[path for path, _ in actual]}")
    for (path, got), (_, expected) in zip(actual, alone, strict=True):
        assert_bitwise_equal(got[position], expected[0], f"{path}, {label}" if path else label)


def cpu_capabilities() -> tuple[str, ...]:
    """The instruction-set levels that this build and this machine have, the best one last."""
    from bninv.building import extension

    extension.load()
    return tuple(torch.ops.bninv._cpu_capabilities().split(","))


@contextlib.contextmanager
def cpu_capability(name: str) -> Iterator[None]:
    """Run the CPU kernels at the level `name`, for the whole process; restores the former level."""
    from bninv.building import extension

    extension.load()
    former = torch.ops.bninv._cpu_capability()
    torch.ops.bninv._set_cpu_capability(name)
    try:
        yield
    finally:
        torch.ops.bninv._set_cpu_capability(former)
