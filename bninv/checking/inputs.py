"""What a model is called with: one tensor, or several in a structure, each with the batch first."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bninv._structure import leaves, tensors


def call_model(model: nn.Module, inputs: Any) -> Any:
    """`model(inputs)`; a tuple is several arguments, and so is a mapping if they have its names."""
    if isinstance(inputs, tuple) and not hasattr(inputs, "_fields"):
        return model(*inputs)
    if isinstance(inputs, Mapping) and _are_arguments(model, inputs):
        return model(**inputs)
    return model(inputs)


def _are_arguments(model: nn.Module, inputs: Mapping[Any, Any]) -> bool:
    try:
        inspect.signature(model.forward).bind(**inputs)
    except (TypeError, ValueError):
        return False
    return True


def count(inputs: Any) -> int:
    """How many samples there are."""
    return tensors(inputs)[0].shape[0]


def first(inputs: Any) -> Tensor:
    """The tensor whose dtype and device count: the first of floating point, if there is one."""
    found = tensors(inputs)
    return next((t for t in found if t.is_floating_point()), found[0])


def sample(inputs: Any, index: int) -> list[Tensor]:
    """One sample's part of every tensor."""
    return [tensor[index] for tensor in tensors(inputs)]


def need_samples(inputs: Any) -> None:
    """Raise ValueError unless every tensor in `inputs` holds the same two samples or more."""
    found = list(leaves(inputs, "inputs"))
    if not found:
        raise ValueError(
            f"inputs: got {type(inputs).__name__}, must be a tensor of at least two samples "
            "(N, ...), or hold such tensors"
        )
    for path, tensor in found:
        if tensor.dim() < 1 or len(tensor) < 2:
            raise ValueError(
                f"{path}: got {tuple(tensor.shape)}, must be a tensor of at least two samples "
                "(N, ...)"
            )
        if len(tensor) != len(found[0][1]):
            raise ValueError(
                f"{path}: got {len(tensor)} samples, must be as many as in {found[0][0]}, "
                f"{len(found[0][1])}"
            )
