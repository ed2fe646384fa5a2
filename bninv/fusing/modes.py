"""What calls depend on beside their arguments: a recording holds for one setting of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_DEVICES = ("cpu", "cuda")
# Nobody computes in it under autocast.
_UNUSUAL = torch.float64


def modes() -> tuple[Any, ...]:
    """All of it, to be compared."""
    autocast = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES]
    grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    return (*grad, *autocast, torch.get_default_dtype())


@contextlib.contextmanager
def unusual_modes() -> Iterator[None]:
    """Modes that no code asks for: code that sets some, whichever, is seen to."""
    grad = torch.is_grad_enabled()
    autocast = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES]
    torch.set_grad_enabled(True)
    for device in _DEVICES:
        torch.set_autocast_enabled(device, True)
        torch.set_autocast_dtype(device, _UNUSUAL)
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        for device, enabled, dtype in autocast:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
