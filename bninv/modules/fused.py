"""What follows a layer in its operator, and whether it fits: what is only known when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bninv._arguments import Activation


class After(NamedTuple):
    """`activation(norm(y) + residual)`, for a layer's result y."""

    norm: Any  # the module, or None
    residual: Tensor | None
    activation: Activation
    negative_slope: float

    @property
    def epilogue(self) -> dict[str, Any]:
        """What an operator is given for it, but for the norm's part."""
        return {
            "residual": self.residual,
            "activation": self.activation,
            "negative_slope": self.negative_slope,
        }


def is_like(residual: Any, device: torch.device, dtype: torch.dtype, shape: Sequence[int]) -> bool:
    """Whether `residual` is None, or can be added to such a result without converting it."""
    return residual is None or (
        type(residual) is Tensor
        and residual.layout is torch.strided
        and residual.shape == shape
        and residual.dtype is dtype
        and residual.device == device
    )
