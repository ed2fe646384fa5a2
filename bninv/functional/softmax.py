"""softmax and log_softmax: rule R4."""

from __future__ import annotations

import torch
from torch import Tensor

from bninv._arguments import integers
from bninv.functional._call import call_converted, ops


def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`e[i] / sum(e)` with `e[i] = exp(x[i] - max(x))`, the sum by R3: rule R4.

    A row that holds NaN or +inf, or nothing but -inf, is NaN as PyTorch documents (where one
    element is +inf, the finite ones too).

    Args:
        input: any shape and strides; float32, float16 or bfloat16, on the CPU.
        dim: the dimension along which results add up to 1.
        dtype: what the input is cast to first; None: nothing.

    Returns:
        A contiguous tensor of the input's shape.

    Raises:
        RuntimeError: a dtype, device or `dim` does not fit.
    """
    return _along("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`(x[i] - max(x)) - log(sum(exp(x - max(x))))`, the sum by R3: rule R4.

    Arguments and result as `softmax`'s.
    """
    return _along("log_softmax", input, dim, dtype)


def _along(name: str, input: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    [along] = integers(dim, 1, "dim")
    return call_converted(getattr(ops, name).default, input, dtype, along)
