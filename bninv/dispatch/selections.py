"""Activations and others that choose between their input and something simple."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bninv._rounding import widened
from bninv._torch import is_observed
from bninv.dispatch import composed
from bninv.operators.adapters import Adapter, need
from bninv.operators.sum import converts_once, sum
from bninv.operators.unary import exp, leaky_relu, log, log1p, sigmoid


def _float(input: Any) -> None:
    need(isinstance(input, Tensor) and input.is_floating_point())


# ---- Classes -------------------------------------------------------------------------------------


def one_hot(
    func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    """PyTorch's own looks at the least and the greatest class of the whole batch, if only to refuse
    them; as if it mixed samples. Here each element is looked at.
    """

    def compare(tensor: Tensor, num_classes: int = -1) -> Tensor:
        # A subclass, such as a fake tensor, may have no elements to look at.
        plain = type(tensor) is Tensor and tensor.device.type == "cpu" and not is_observed()
        if not plain or tensor.dtype is not torch.int64 or num_classes < 1:
            return func(tensor, num_classes)
        if ((tensor < 0) | (tensor >= num_classes)).any():
            return func(tensor, num_classes)  # which has the message
        return (tensor.unsqueeze(-1) == torch.arange(num_classes)).to(torch.int64)

    return compare(*args, **kwargs)


# ---- Activations ---------------------------------------------------------------------------------


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """`a * sigmoid(b)` of the two halves, rounded to a 16-bit type once."""
    _float(input)
    need(input.dim() > 0 and input.size(dim) % 2 == 0)  # PyTorch has the message
    a, b = widened(input).chunk(2, dim)
    return (a * sigmoid(b)).to(input.dtype)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`x - lambd` above it, `x + lambd` below its negative, +0 between; NaN stays NaN."""
    _float(input)
    need(lambd >= 0)
    x = widened(input)
    shrunk = torch.where(x > lambd, x - lambd, torch.where(x < -lambd, x + lambd, 0))
    return torch.where(x != x, x, shrunk).to(input.dtype)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """+0 from `-lambd` to `lambd`; as stock's on the CPU."""
    _float(input)
    bound = input.new_full((), lambd)
    return torch.where((input >= -bound) & (input <= bound), 0, input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`value` for what is not above the threshold; NaN stays NaN."""
    _float(input)
    result = torch.where(input <= input.new_full((), threshold), input.new_full((), value), input)
    return input.copy_(result) if inplace else result


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    *others: Any,  # `inplace` of torch.nn.functional's, the generator of ATen's
    inplace: bool = False,
    generator: Any = None,
) -> Tensor:
    """Outside training: `leaky_relu` by the slope in the middle."""
    need(not training)
    return leaky_relu(input, (lower + upper) / 2, inplace or others == (True,))


def rrelu_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input.copy_(rrelu(input, *args, **kwargs))


def _aten_rrelu(input: Tensor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return rrelu(input, *args, **kwargs)


# ---- Bounds --------------------------------------------------------------------------------------


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """By numbers as stock on the CPU, which keeps a zero that a bound of zero equals; by tensors a
    maximum, then a minimum (R0).
    """
    _float(input)
    need(min is not None or max is not None)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        bounds = [bound for bound in (min, max) if bound is not None]
        need(all(isinstance(bound, Tensor) for bound in bounds))
        need(all(bound.dtype == input.dtype for bound in bounds))
        result = input if min is None else composed.maximum(input, min)
        return result if max is None else composed.minimum(result, max)
    need(all(isinstance(bound, (int, float)) for bound in (min, max) if bound is not None))
    result = input.clone()
    for bound, beyond in ((min, torch.lt), (max, torch.gt)):
        if bound is not None:
            limit = input.new_full((), bound)
            result = torch.where(beyond(result, limit), limit, result)
    return result


def _clamp_min(input: Tensor, min: Any) -> Tensor:
    return clamp(input, min)


def _clamp_max(input: Tensor, max: Any) -> Tensor:
    return clamp(input, None, max)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    result = clamp(input, min_val, max_val)
    return input.copy_(result) if inplace else result


def _in_place(function: Adapter) -> Adapter:
    def in_place(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return input.copy_(function(input, *args, **kwargs))

    return in_place


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The one that is a number, else `maximum` (R0)."""
    larger = composed.maximum(input, other)
    return torch.where(input != input, other, torch.where(other != other, input, larger))


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The one that is a number, else `minimum` (R0)."""
    smaller = composed.minimum(input, other)
    return torch.where(input != input, other, torch.where(other != other, input, smaller))


# ---- Of several operators ------------------------------------------------------------------------


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """`log(z / (1 - z))`, z held to [eps, 1 - eps]."""
    _float(input)
    z = widened(input)
    if eps is not None:
        z = clamp(z, eps, 1 - eps)
    return log(z / (1 - z)).to(input.dtype)


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """`max(a, b) + log1p(exp(-|a - b|))`, the difference of equal ones being 0."""
    need(input.dtype == other.dtype)
    _float(input)
    a, b = widened(input), widened(other)
    difference = torch.where(a == b, 0, a - b)
    return (composed.maximum(a, b) + log1p(exp(-difference.abs()))).to(input.dtype)


def nansum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """`sum` with +0 in the place of NaN."""
    _float(input)
    need(converts_once(input, dtype))
    return sum(torch.where(input != input, 0, input), dim, keepdim, dtype=dtype)


ATEN: dict[str, Adapter] = {
    "glu": glu,
    "softshrink": softshrink,
    "rrelu": rrelu,
    "rrelu_": rrelu_,
    "rrelu_with_noise": _aten_rrelu,
    "fmax": fmax,
    "fmin": fmin,
    "logit": logit,
    "logit_": _in_place(logit),
    "logaddexp": logaddexp,
    "nansum": nansum,
}
# Stock's own on the CPU, and where no zero meets a zero.
REPAIRS: dict[str, Adapter] = {
    "clamp": clamp,
    "clamp_": _in_place(clamp),
    "clamp_min": _clamp_min,
    "clamp_min_": _in_place(_clamp_min),
    "clamp_max": _clamp_max,
    "clamp_max_": _in_place(_clamp_max),
    "hardtanh": hardtanh,
    "hardtanh_": _in_place(hardtanh),
    "threshold": threshold,
    "threshold_": _in_place(threshold),
    "hardshrink": hardshrink,
}
