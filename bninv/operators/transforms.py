"""Operators under torch.func: vmap runs them slice by slice, derivatives are refused.

An operator's result for a slice does not depend on the other slices, so vmap needs no rule of each
operator's own: the bits are those of a loop, which is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bninv import _torch

NO_DERIVATIVE = (
    "the forward of a patched model obeys the contract, gradients do not exist. Run under "
    "torch.no_grad() or torch.inference_mode(), call model.train() (a patched module in training "
    "mode is the stock one), or bninv.unpatch(model)."
)


def register_vmap(op: Any, library: torch.library.Library) -> None:
    """Let torch.func.vmap run an operator, in place or not."""
    rule = _in_place(op) if op._schema.is_mutable else _out_of_place(op)
    torch.library.register_vmap(op._name.partition(".")[0], rule, lib=library)


def _out_of_place(op: Any) -> Callable[..., Any]:
    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Tensor, int]:
        slices = range(info.batch_size)
        return torch.stack([op(*_slice(args, in_dims, index)) for index in slices]), 0

    return rule


def _in_place(op: Any) -> Callable[..., Any]:
    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[None, None]:
        if in_dims[0] is None:
            raise RuntimeError(
                f"{op._name}: `input` is changed in place and the same for all slices of vmap; it "
                "may be mapped over, or the operator not in place"
            )
        for index in range(info.batch_size):
            op(*_slice(args, in_dims, index))
        return None, None

    return rule


def _slice(args: Sequence[Any], in_dims: Sequence[Any], index: int) -> list[Any]:
    # Of a list of sizes, which is not mapped over, the dimensions are a list as well.
    return [
        arg.select(dim, index) if isinstance(arg, Tensor) and dim is not None else arg
        for arg, dim in zip(args, in_dims, strict=True)
    ]


def refuse_tangents(name: str, args: Sequence[Any]) -> None:
    """Raise NotImplementedError if a tensor carries a tangent, which would be lost without a word.

    Called where forward-mode differentiation is on at all.
    """
    for value in args:
        if isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None:
            raise NotImplementedError(
                f"bninv.{name} has no forward-mode derivative: {NO_DERIVATIVE}"
            )


def refuse_functional_gradient(name: str, args: Sequence[Any]) -> None:
    """Raise NotImplementedError if torch.func.grad, or a relative, asks for a derivative."""
    if any(isinstance(value, Tensor) and _torch.is_gradtracking(value) for value in args):
        raise NotImplementedError(f"bninv.{name} has no backward yet: {NO_DERIVATIVE}")
