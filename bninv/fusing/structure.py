"""What a call's arguments look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree


class Structure(NamedTuple):
    """Of positional arguments: a program is made for one structure of them."""

    spec: pytree.TreeSpec
    leaves: tuple[Any, ...]  # Tensor in a tensor's place; a value with its text: 0.0 is not -0.0

    def unflatten(self, tensor: Callable[[], Any]) -> Any:
        leaves = [tensor() if part is Tensor else part[1] for part in self.leaves]
        return pytree.tree_unflatten(leaves, self.spec)


def structure_of(args: tuple[Any, ...]) -> tuple[Structure | None, Sequence[Any]]:
    """The structure of positional arguments, None for what programs are not made for; and the
    tensors in them, in order.
    """
    if len(args) == 1 and type(args[0]) is Tensor:
        return ONE_TENSOR, args
    leaves, spec = pytree.tree_flatten(args)
    tensors = [leaf for leaf in leaves if type(leaf) is Tensor]
    values = (type(None), bool, int, float, str)
    if not all(type(leaf) is Tensor or type(leaf) in values for leaf in leaves):
        return None, tensors
    parts = (Tensor if type(leaf) is Tensor else (repr(leaf), leaf) for leaf in leaves)
    return Structure(spec, tuple(parts)), tensors


def tensors(count: int) -> Structure:
    """The structure of a call with so many tensors."""
    return Structure(pytree.tree_flatten((None,) * count)[1], (Tensor,) * count)


ONE_TENSOR = tensors(1)
