"""Shapes and strides of results that several operators have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._memory_format import is_channels_last_order, is_dense


def like_dense(input: Tensor, *_: Any) -> Tensor:
    """The input's strides where it is dense, else contiguous."""
    if is_dense(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)


def empty(input: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Of four dimensions or five."""
    format_of_channels = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    memory_format = format_of_channels if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=memory_format)


def contiguous(input: Tensor, *_: Any) -> Tensor:
    return input.new_empty(input.shape)


def keeps_channels_last(input: Tensor, *_: Any) -> Tensor:
    if not input.is_contiguous() and is_channels_last_order(input):
        return torch.empty_like(input)
    return input.new_empty(input.shape)
