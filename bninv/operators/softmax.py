"""softmax and log_softmax: rule R4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv.modules.base import Patched
from bninv.operators.adapters import Adapter, UnfitError, need
from bninv.operators.along import call_along, operators_along
from bninv.operators.sum import converts_once
from bninv.operators.unary import sigmoid


def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`e[i] / sum(e)` with `e[i] = exp(x[i] - max(x))`, the sum by R3: rule R4.

    A row that holds NaN or +inf, or nothing but -inf, is NaN as PyTorch documents (where one
    element is +inf, the finite ones too).

    Args:
        input: any shape and strides.
        dim: the dimension along which results add up to 1.
        dtype: what the input is cast to first; None: nothing.

    Returns:
        A contiguous tensor of the input's shape.

    Raises:
        RuntimeError: a dtype, device or `dim` does not fit.
    """
    return call_along("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`(x[i] - max(x)) - log(sum(exp(x - max(x))))`, the sum by R3: rule R4.

    Arguments and result as `softmax`'s.
    """
    return call_along("log_softmax", input, dim, dtype)


OPERATORS = operators_along("softmax", "log_softmax")


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _softmax(function: Adapter) -> Adapter:
    def along(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
        need(converts_once(input, dtype))
        return function(input, dim, dtype)

    return along


def _python_softmax(function: Adapter) -> Adapter:
    along = _softmax(function)

    def softmax(
        input: Tensor,
        dim: int | None = None,
        _stacklevel: int = 3,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        if dim is None:
            raise UnfitError  # chosen by the number of dimensions, with a warning
        return along(input, dim, dtype)

    return softmax


def _aten_softmax(function: Adapter) -> Adapter:
    def along(input: Tensor, dim: int, half_to_float: bool) -> Tensor:
        return function(input, dim, torch.float32 if half_to_float else None)

    return along


ATEN: dict[str, Adapter] = {
    "softmax": _softmax(softmax),
    "_softmax": _aten_softmax(softmax),
    "log_softmax": _softmax(log_softmax),
    "_log_softmax": _aten_softmax(log_softmax),
}
PYTHON: dict[str, Adapter] = {
    "softmax": _python_softmax(softmax),
    "log_softmax": _python_softmax(log_softmax),
}


# ---- Modules -------------------------------------------------------------------------------------


class Softmax(Patched):
    dim: int

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if module.dim is None:
            return "its dim is None, which may mean the batch: give it one"
        return None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return softmax(input, self.dim)


class LogSoftmax(Softmax):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return log_softmax(input, self.dim)


class Softmax2d(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4):
            raise ValueError(f"`input` has {input.dim()} dimensions; it may have 3 or 4")
        return softmax(input, -3)


class RadixSoftmax(Patched):
    """timm's attention over the branches of a ResNeSt block; one branch: a sigmoid."""

    radix: int
    cardinality: int

    def invariant_forward(self, x: Tensor) -> Tensor:
        if self.radix == 1:
            return sigmoid(x)
        batch = x.size(0)
        branches = x.view(batch, self.cardinality, self.radix, -1).transpose(1, 2)
        return softmax(branches, dim=1).reshape(batch, -1)


_TORCH = "torch.nn.modules.activation."

KINDS: dict[str, type[Patched]] = {
    _TORCH + "Softmax": Softmax,
    _TORCH + "LogSoftmax": LogSoftmax,
    _TORCH + "Softmax2d": Softmax2d,
    "timm.layers.split_attn.RadixSoftmax": RadixSoftmax,
}

__all__ = ["log_softmax", "softmax"]
