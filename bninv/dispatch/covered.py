"""What PyTorch's functions become: bninv's operators under PyTorch's many signatures.

Two tables, since one name may have two signatures: `PYTHON` for the functions of
`torch.nn.functional` that are written in Python, `ATEN` for those of ATen (`torch.softmax`,
`Tensor.softmax`, `torch._C._nn.linear` and the operators themselves), which agree with each other.
An adapter raises `UnfitError` for arguments that bninv's operator does not take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bninv import _extension
from bninv import functional as F
from bninv._arguments import BatchStatisticsError
from bninv._schemas import UNARY
from bninv.dispatch import composed
from bninv.dispatch.unfit import UnfitError, need
from bninv.exact import names
from bninv.nn.base import FLOATING

Adapter = Callable[..., Any]


# ---- Signatures that differ from bninv.functional's ----------------------------------------------


def _reduction(function: Adapter) -> Adapter:
    def reduce(
        input: Tensor,
        dim: Any = None,
        keepdim: bool = False,
        *,
        dtype: torch.dtype | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Tensor:
        need(input.is_floating_point() and dtype in (None, input.dtype))
        # NumPy's names, which PyTorch takes as well.
        return function(input, dim if axis is None else axis, keepdim or keepdims)

    return reduce


def _softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    need(dtype in (None, input.dtype))
    return F.softmax(input, dim)


def _python_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    if dim is None:
        raise UnfitError  # chosen by the number of dimensions, with a warning
    return _softmax(input, dim, dtype)


def _aten_softmax(input: Tensor, dim: int, half_to_float: bool) -> Tensor:
    need(not half_to_float)
    return F.softmax(input, dim)


def _adaptive_max(function: Adapter) -> Adapter:
    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
        need(not return_indices)
        return function(input, output_size)

    return pool


def _max_pool(function: Adapter) -> Adapter:
    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        need(not return_indices)
        return function(input, kernel_size, stride, padding, dilation, ceil_mode)

    return pool


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _native_batch_norm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    # The statistics that the other results hold are what a backward needs, which does not exist.
    need(not torch.is_grad_enabled() and not args[5])
    nothing = args[0].new_empty(0)
    return _batch_norm(*args), nothing, nothing


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


def _instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    need(bias.dim() == 1 and beta == 1 and alpha == 1)
    return F.linear(a, b.t(), bias)


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return F.linear(a, b.t())


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    need(not transposed and input.dim() in (3, 4) and input.dim() == weight.dim())
    function = F.conv1d if input.dim() == 3 else F.conv2d
    return function(input, weight, bias, stride, padding, dilation, groups)


def _in_place(function: Adapter) -> Adapter:
    def change(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, inplace=True, **kwargs)

    return change


# ---- The tables ----------------------------------------------------------------------------------


ATEN: dict[str, Adapter] = {
    **{name: getattr(F, name) for name in (*UNARY, "gelu", "leaky_relu")},
    **{f"{name}_": _in_place(getattr(F, name)) for name in (*UNARY, "gelu", "leaky_relu")},
    **{name: getattr(F, name) for name in ("conv1d", "conv2d", "linear", "rms_norm")},
    **{name: getattr(F, name) for name in ("avg_pool1d", "avg_pool2d")},
    **{name: _max_pool(getattr(F, name)) for name in ("max_pool1d", "max_pool2d")},
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "mean": _reduction(F.mean),
    "sum": _reduction(F.sum),
    "softmax": _softmax,
    "_softmax": _aten_softmax,
    "batch_norm": _batch_norm,
    "native_batch_norm": _native_batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "pow": composed.power,
    "square": composed.square,
    "addmm": _addmm,
    "mm": _mm,
    "addcmul": composed.addcmul,
    "maximum": composed.maximum,
    "bmm": F.matmul,
    "matmul": F.matmul,
    "var": composed.var,
    "linalg_vector_norm": composed.vector_norm,
    "convolution": _convolution,
}

# For calls that are exact only under some arguments, on some devices: what the others become.
REPAIRS: dict[str, Adapter] = {"div": composed.divide, "div_": composed.divide_}

PYTHON: dict[str, Adapter] = {
    **{name: getattr(F, name) for name in ("relu", "relu6", "leaky_relu", "silu", "hardswish")},
    "hardsigmoid": F.hardsigmoid,
    **{name: _max_pool(getattr(F, name)) for name in ("max_pool1d", "max_pool2d")},
    **{
        name: _adaptive_max(getattr(F, name))
        for name in ("adaptive_max_pool1d", "adaptive_max_pool2d")
    },
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "softmax": _python_softmax,
    "normalize": composed.normalize,
    "batch_norm": F.batch_norm,
    "layer_norm": F.layer_norm,
    "group_norm": F.group_norm,
    "instance_norm": F.instance_norm,
    "rms_norm": F.rms_norm,
}

# Not defined in binary64, for want of an exponential there.
_NO_FLOAT64 = names("sigmoid sigmoid_ silu silu_ tanh tanh_ gelu gelu_ softmax _softmax")


def _has_kernel(name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
    found = False
    # No function of the tables takes tensors in lists.
    for tensor in (*args, *kwargs.values()) if kwargs else args:
        if not isinstance(tensor, Tensor):
            continue
        found = True
        device, dtype = tensor.device.type, tensor.dtype
        if tensor.layout != torch.strided or device not in ("cpu", "cuda", "meta"):
            return False
        if dtype is torch.float32 and device == "cpu":
            continue
        if dtype not in FLOATING or (dtype == torch.float64 and name in _NO_FLOAT64):
            return False
        if device == "cuda" and not _extension.has_cuda():
            return False
    return found


def call(name: str, adapter: Adapter, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call an adapter.

    Raises:
        UnfitError: it does not take these arguments, or there is no kernel for these tensors.
    """
    if "out" in kwargs or not _has_kernel(name, args, kwargs):
        raise UnfitError
    try:
        return adapter(*args, **kwargs)
    except BatchStatisticsError:
        raise UnfitError from None
