"""What operators along one dimension share: the call, and what a room says of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers
from bninv.operators import fakes
from bninv.operators.call import call_converted, ops
from bninv.operators.draw import Draw, any_input
from bninv.operators.operator import Operator


def call_along(name: str, input: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    """The operator of that name, of an input that is converted to `dtype` first."""
    [along] = integers(dim, 1, "dim")
    return call_converted(getattr(ops, name).default, input, dtype, along)


def _draw(draw: Draw) -> list[Any]:
    x = any_input(draw)
    return [x, draw.random.randrange(-x.ndim, x.ndim)]


def operators_along(*names: str) -> list[Operator]:
    return [
        Operator(name, "(Tensor input, int dim) -> Tensor", fakes.contiguous, _draw)
        for name in names
    ]
