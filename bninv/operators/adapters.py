"""What an adapter is: a function of bninv's under one of PyTorch's signatures.

A room has two tables of them, since one name may have two signatures: `PYTHON` for the functions of
`torch.nn.functional` that are written in Python, `ATEN` for those of ATen (`torch.softmax`,
`Tensor.softmax`, `torch._C._nn.linear` and the operators themselves), which agree with each other.
An adapter raises `UnfitError` for arguments that bninv's operator does not take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Adapter = Callable[..., Any]


class UnfitError(Exception):
    """bninv's operator does not take these arguments; the call is to go on as PyTorch's."""


def need(fits: bool) -> None:
    """Raise UnfitError unless `fits`."""
    if not fits:
        raise UnfitError
