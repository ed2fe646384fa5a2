"""The contract's storage types (R0) around the NumPy reference: tensors in, tensors out.

An operator widens its inputs exactly, computes in binary32 (float64 tensors: in binary64), and
rounds its result once. A fused chain rounds at each boundary, as separate operators would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support import reference, reference_convolution, reference_functions, reference_pool3d

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NARROW = (torch.float16, torch.bfloat16)
OTHERS = (torch.float64, *NARROW)


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


def activated(name: str, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """One elementwise operator on a tensor of any dtype."""
    values = widened(x, x.dtype)
    if name == "none":
        return x.contiguous()
    options: dict[str, Any] = {"negative_slope": negative_slope} if name == "leaky_relu" else {}
    if name == "gelu_tanh":
        name, options = "gelu", {"approximate": "tanh"}
    function = reference_functions.FUNCTIONS[name]
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
    result = rounded(reference.batch_norm(*values, eps=eps), x.dtype)
    if residual is not None:
        with np.errstate(all="ignore"):
            total = widened(result, x.dtype) + widened(residual, x.dtype)
        result = rounded(total, x.dtype)
    return activated(activation, result, negative_slope)


def _on_tensors(form: Callable[..., NDArray[Any]]) -> Callable[..., Tensor]:
    """A function of the reference on tensors of one dtype."""

    def operator(x: Tensor, *args: Any, **options: Any) -> Tensor:
        values = [widened(v, x.dtype) if isinstance(v, Tensor) else v for v in (x, *args)]
        return rounded(np.asarray(form(*values, **options)), x.dtype)

    return operator


conv2d = _on_tensors(reference.conv2d)
conv3d = _on_tensors(reference_convolution.convolution)
conv_transpose1d = conv_transpose2d = conv_transpose3d = _on_tensors(
    reference_convolution.conv_transpose
)
linear = _on_tensors(reference.linear)
bmm = _on_tensors(reference.bmm)
baddbmm = _on_tensors(reference.baddbmm)
avg_pool2d = _on_tensors(reference.avg_pool2d)
max_pool2d = _on_tensors(reference.max_pool2d)
adaptive_avg_pool2d = _on_tensors(reference.adaptive_avg_pool2d)
adaptive_max_pool2d = _on_tensors(reference.adaptive_max_pool2d)
avg_pool3d = _on_tensors(reference_pool3d.avg_pool3d)
max_pool3d = _on_tensors(reference_pool3d.max_pool3d)
adaptive_avg_pool3d = _on_tensors(reference_pool3d.adaptive_avg_pool3d)
adaptive_max_pool3d = _on_tensors(reference_pool3d.adaptive_max_pool3d)
sum = _on_tensors(reference.sum)
mean = _on_tensors(reference.mean)
