"""What a model is called with: one tensor, or several in a structure, each with the batch first;
or, if it is a detector, images of sizes of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bninv._structure import leaves, tensors
from bninv.detection import Images, is_detector


def as_samples(model: nn.Module, inputs: Any) -> Any:
    """`inputs`, but for a detector's: its batch is a list of images, also where it was a tensor."""
    if isinstance(inputs, Images) or not is_detector(model):
        return inputs
    if isinstance(inputs, Tensor) and inputs.dim() == 4:
        return Images(inputs.unbind())
    listed = isinstance(inputs, (list, tuple)) and not hasattr(inputs, "_fields")
    if listed and all(isinstance(image, Tensor) and image.dim() == 3 for image in inputs):
        return Images(inputs)
    return inputs


def call_model(model: nn.Module, inputs: Any) -> Any:
    """`model(inputs)`; a tuple is several arguments, and so is a mapping if they have its names."""
    if isinstance(inputs, Images):
        return model(list(inputs))
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
    if isinstance(inputs, Images):
        return len(inputs)
    return tensors(inputs)[0].shape[0]


def first(inputs: Any) -> Tensor:
    """The tensor whose dtype and device count: the first of floating point, if there is one."""
    found = tensors(inputs)
    return next((t for t in found if t.is_floating_point()), found[0])


def sample(inputs: Any, index: int) -> list[Tensor]:
    """One sample's part of every tensor."""
    if isinstance(inputs, Images):
        return [inputs[index]]
    return [tensor[index] for tensor in tensors(inputs)]


def need_samples(inputs: Any) -> None:
    """Raise ValueError unless every tensor in `inputs` holds the same two samples or more."""
    found = list(leaves(inputs, "inputs"))
    if isinstance(inputs, Images):
        wrong = next((item for item in found if item[1].dim() != 3), None)
        if wrong or len(found) < 2:
            got = f"{wrong[0]}: got {tuple(wrong[1].shape)}" if wrong else "inputs: got 1 image"
            raise ValueError(f"{got}, must be at least two images (channels, height, width)")
        return
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
