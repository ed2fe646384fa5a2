"""How strides are read: the rules of csrc/ops/common.cpp, so that fake and real kernels agree."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Every element is one memory location of a block without gaps, in any order of dimensions."""
    expected = 1
    if tensor.numel() == 0:
        return True
    dims = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    for stride, size in dims:
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def is_channels_last(tensor: Tensor) -> bool:
    """PyTorch's own reading of strides: a 4-d or 5-d tensor with the channels as the fastest
    dimension.
    """
    if tensor.dim() not in (4, 5) or tensor.stride(1) == 0:
        return False
    least = 0
    for d in (1, *range(tensor.dim() - 1, 1, -1), 0):
        if tensor.size(d) == 0 or tensor.stride(d) < least:
            return False
        # One channel of one row: the strides say contiguous as well; PyTorch then reads contiguous.
        if d == 0 and least == tensor.stride(1):
            return False
        least = tensor.stride(d)
        if tensor.size(d) > 1:
            least *= tensor.size(d)
    return True


def is_channels_last_order(tensor: Tensor) -> bool:
    """Batch, then pixels row by row, then channels, without gaps, in 4-d and 5-d."""
    if tensor.dim() not in (4, 5):
        return False
    expected = 1
    for d in (1, *range(tensor.dim() - 1, 1, -1), 0):
        if tensor.size(d) != 1 and tensor.stride(d) != expected:
            return False
        expected *= tensor.size(d)
    return True


def panel_order(weight: Tensor) -> tuple[int, ...]:
    """A weight's dimensions from the slowest to the fastest in the (r, s, c, o) panel."""
    return (*range(2, weight.dim()), 1, 0)


def is_panel(weight: Tensor) -> bool:
    """Whether a weight (out, in, kernel...) is stored as the panel the kernels read in place."""
    return is_in_order(weight, panel_order(weight))


def is_in_order(tensor: Tensor, order: Sequence[int]) -> bool:
    """Whether a tensor is dense with its dimensions in this order, the slowest first."""
    expected = 1
    for d in reversed(order):
        if tensor.size(d) > 1 and tensor.stride(d) != expected:
            return False
        expected *= tensor.size(d)
    return True
