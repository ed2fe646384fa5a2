"""Functions that read a tensor's memory as it lies, of results that only bninv made channels_last.

Code written for contiguous activations calls `x.view(n, -1)` on a convolution's result. Where that
fails, the result is laid out anew first, so that the view works and shares its memory, as in the
stock model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bninv import _torch

_OUT = "use flatten or reshape, which copy where they have to, or call .contiguous() before"


def view(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tensor.view.

    Raises:
        RuntimeError: other tensors look at the same memory, or a compiler is at work.
    """
    try:
        return func(*args, **kwargs)
    except RuntimeError as error:
        x: Any = args[0] if args else None
        if not is_channels_last_only(x):
            raise
        if _torch.is_observed() or not _is_alone(x):
            shape = list(x.shape)
            raise RuntimeError(
                f"`view` of a channels_last tensor of shape {shape}: after bninv.patch the results "
                f"of convolutions are channels_last; {_OUT}"
            ) from error
    with torch.no_grad():
        x.data = x.detach().contiguous()
    return func(*args, **kwargs)


def as_strided(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tensor.as_strided and torch.as_strided.

    Raises:
        RuntimeError: the tensor is channels_last: the strides are most likely a contiguous one's.
    """
    x: Any = args[0] if args else kwargs.get("input")
    if is_channels_last_only(x):
        raise RuntimeError(
            f"`as_strided` of a channels_last tensor of shape {list(x.shape)}: after bninv.patch "
            "the results of convolutions are channels_last, and strides for contiguous memory "
            "would pick other elements; call .contiguous() before"
        )
    return func(*args, **kwargs)


def is_channels_last_only(x: Any) -> bool:
    """Whether a tensor is channels_last and not contiguous as well."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.dim() not in formats:
        return False
    return not x.is_contiguous() and x.is_contiguous(memory_format=formats[x.dim()])


def _is_alone(x: Tensor) -> bool:
    """Whether no other tensor looks at this one's memory."""
    # One user is the tensor, another the object that is asked.
    return type(x) is Tensor and _torch.users_of(x.untyped_storage()) == 2


INSTEAD = {"view": view, "as_strided": as_strided}
