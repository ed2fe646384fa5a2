"""Assertions for test suites, bninv's own and its users'."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

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
    function: Callable[[Tensor], Tensor],
    input: Tensor,
    batch_sizes: Sequence[int] = (1, 2, 3, 8),
) -> None:
    """Raise AssertionError unless each sample's result has the same bits in every batch.

    Args:
        function: maps [batch, ...] to [batch, ...], sample by sample.
        input: the samples, [batch, ...], at least one. Every sample is run alone, then in batches
            of each size, at several positions, among the others and among samples of NaN.
        batch_sizes: the sizes to try, each at least 1.
    """
    if input.size(0) < 1:
        raise ValueError(f"`input` has shape {list(input.shape)}; it may hold one sample and more")
    alone = [function(input[i : i + 1]) for i in range(input.size(0))]
    for size in batch_sizes:
        if size < 1:
            raise ValueError(f"`batch_sizes` holds {size}; it may hold 1 and more")
        for i in range(input.size(0)):
            for position in {0, size // 2, size - 1}:
                others = [(i + 1 + j) % input.size(0) for j in range(size)]
                batch = input[others].clone()
                batch[position] = input[i]
                label = f"sample {i} at position {position} of {size}"
                assert_bitwise_equal(function(batch)[position], alone[i][0], label)
                if input.is_floating_point():
                    batch = torch.full_like(batch, float("nan"))
                    batch[position] = input[i]
                    label += " among NaN"
                    assert_bitwise_equal(function(batch)[position], alone[i][0], label)


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
