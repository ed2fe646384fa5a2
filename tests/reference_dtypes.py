"""The contract's storage types (R0) around the NumPy reference: tensors in, tensors out.

An operator widens its inputs exactly, computes in binary32 (float64 tensors: in binary64), and
rounds its result once. A fused chain rounds at each boundary, as separate operators would.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import reference
import reference_functions
import torch
from numpy.typing import NDArray
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NARROW = (torch.float16, torch.bfloat16)


def widened(x: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """An array of the arithmetic type of operators over `dtype`."""
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    return x.detach().contiguous().to(arithmetic).numpy()


def rounded(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """Rounded once, to nearest even."""
    if dtype == torch.float16:
        with np.errstate(over="ignore"):
            return torch.from_numpy(values.astype(np.float16))
    if dtype == torch.bfloat16:
        bits = values.view(np.uint32)
        # Half of the last place, less one where that is even already: a tie goes to the even side.
        up = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        patterns = np.where(np.isnan(values), np.uint16(0x7FC0), up)
        return torch.from_numpy(patterns.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def fma64(a: float, b: float, c: float) -> float:
    """binary64 `a * b + c`, rounded once, by exact rationals."""
    if not np.isfinite([a, b, c]).all():
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:  # the sign of an exact zero is that of IEEE's sum
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    try:
        return exact.numerator / exact.denominator  # correctly rounded
    except OverflowError:
        return np.inf if exact > 0 else -np.inf


def _batch_norm64(x, mean, var, weight, bias, eps):
    """reference.batch_norm in binary64."""
    column = (slice(None),) + (None,) * (x.ndim - 2)
    with np.errstate(all="ignore"):
        scale = weight / np.sqrt(var + np.float64(eps))
        arrays = np.broadcast_arrays(x - mean[column], scale[column], bias[column])
        return np.vectorize(fma64, otypes=[np.float64])(*arrays)


def _piecewise64(name: str, x: NDArray[np.float64], negative_slope: float) -> NDArray[np.float64]:
    """The activations that R6 defines in binary64."""
    with np.errstate(all="ignore"):
        relu = np.where(x <= 0, 0.0, x)
        if name == "relu":
            return relu
        if name == "relu6":
            return np.where(relu > 6, 6.0, relu)
        if name == "leaky_relu":
            return np.where(x > 0, x, x * np.float64(negative_slope))
        shifted = x + 3.0
        gate = np.where(shifted <= 0, 0.0, shifted)
        gate = np.where(gate > 6, 6.0, gate) / 6.0
        return gate if name == "hardsigmoid" else x * gate


def activated(name: str, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """One elementwise operator on a tensor of any dtype."""
    values = widened(x, x.dtype)
    if name == "none":
        return x.contiguous()
    if x.dtype == torch.float64:
        return rounded(_piecewise64(name, values, negative_slope), x.dtype)
    function = reference_functions.FUNCTIONS[name]
    options = {"negative_slope": negative_slope} if name == "leaky_relu" else {}
    return rounded(function(values, **options), x.dtype)


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: str = "none",
    negative_slope: float = 0.01,
) -> Tensor:
    """R2, then the residual, then the activation, each rounded to x's dtype."""
    weight = torch.ones_like(running_var) if weight is None else weight
    bias = torch.zeros_like(running_mean) if bias is None else bias
    values = [widened(v, x.dtype) for v in (x, running_mean, running_var, weight, bias)]
    form = _batch_norm64 if x.dtype == torch.float64 else reference.batch_norm
    result = rounded(form(*values, eps), x.dtype)
    if residual is not None:
        with np.errstate(all="ignore"):
            total = widened(result, x.dtype) + widened(residual, x.dtype)
        result = rounded(total, x.dtype)
    return activated(activation, result, negative_slope)
