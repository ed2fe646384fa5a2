"""What an operator's `draw` is handed: where awkward sizes, tensors and options come from.

The tests have one that draws from a seed (tests/gpu/draws.py); nothing is drawn in here.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

import torch
from torch import Tensor


class Draw(Protocol):
    """Numbers, sizes and tensors from one seed."""

    random: random.Random
    dtype: torch.dtype
    most: int  # elements of a tensor, about

    def size(self, most: int) -> int: ...

    def shape(self, dims: int) -> list[int]:
        """Sizes of which each may be the long one."""

    def maybe(self, value: Any) -> Any:
        """The value, or now and then None."""

    def tensor(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor: ...

    def input(self, *shape: int) -> Tensor:
        """A tensor in one of the orders and alignments that one may have."""

    def parameters(self, *shape: int, count: int) -> list[Tensor | None]:
        """Each or none of them, float32 beside a narrow input now and then."""

    def epilogue(self) -> list[Any]:
        """An activation that is defined in the dtype, and a slope."""

    def statistics(self, channels: int) -> list[Tensor]:
        """A running mean and a running variance."""


def rows(draw: Draw) -> tuple[Tensor, list[int]]:
    """An input, and the last of its sizes."""
    x = draw.input(*draw.shape(draw.random.randint(2, 4)))
    return x, list(x.shape[draw.random.randint(1, x.ndim - 1) :])


def any_input(draw: Draw) -> Tensor:
    return draw.input(*draw.shape(draw.random.randint(1, 4)))
