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

from bninv import functional as F
from bninv._arguments import BatchStatisticsError
from bninv._autocast import MixedHalvesError, call_as
from bninv._schemas import UNARY
from bninv.building import extension as _extension
from bninv.dispatch import composed
from bninv.dispatch.exact import names
from bninv.dispatch.unfit import UnfitError, need
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
        need(input.is_floating_point() and composed.converts_once(input, dtype))
        # NumPy's names, which PyTorch takes as well.
        dims = dim if axis is None else axis
        return function(input, dims, keepdim or keepdims, dtype=dtype)

    return reduce


def _softmax(function: Adapter) -> Adapter:
    def along(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
        need(composed.converts_once(input, dtype) and dtype != torch.float64)
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


def _native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    # The statistics that the other results hold are what a backward needs, which does not exist.
    need(not torch.is_grad_enabled() and not training)
    nothing = input.new_empty(0)
    result = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return result, nothing, nothing


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


# What PyTorch's cuBLAS does with an `out_dtype`, wider than the operands, has no operator here.


def _addmm(
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    out_dtype: torch.dtype | None = None,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    need(input.shape == mat2.shape[1:] and beta == 1 and alpha == 1 and out_dtype is None)
    return F.linear(mat1, mat2.t(), input)


def _addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    need(input.shape == mat.shape[:1] and beta == 1 and alpha == 1)
    return F.linear(vec, mat, input)


def _mm(input: Tensor, mat2: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    need(out_dtype is None)
    return F.linear(input, mat2.t())


def _bmm(input: Tensor, mat2: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    need(out_dtype is None)
    return F.matmul(input, mat2)


def _mv(input: Tensor, vec: Tensor) -> Tensor:
    return F.matmul(input, vec)


def _dot(input: Tensor, tensor: Tensor) -> Tensor:
    return F.matmul(input, tensor)


def _vdot(input: Tensor, other: Tensor) -> Tensor:
    return F.matmul(input, other)


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
    "softmax": _softmax(F.softmax),
    "_softmax": _aten_softmax(F.softmax),
    "log_softmax": _softmax(F.log_softmax),
    "_log_softmax": _aten_softmax(F.log_softmax),
    "batch_norm": _batch_norm,
    "native_batch_norm": _native_batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "pow": composed.power,
    "pow_": composed.power_,
    "square": composed.square,
    "square_": composed.square_,
    "addmm": _addmm,
    "addmv": _addmv,
    "mm": _mm,
    "mv": _mv,
    "dot": _dot,
    "vdot": _vdot,
    "addcmul": composed.addcmul,
    "maximum": composed.maximum,
    "bmm": _bmm,
    "matmul": F.matmul,
    "var": composed.var,
    "norm": composed.norm,
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
    "softmax": _python_softmax(F.softmax),
    "log_softmax": _python_softmax(F.log_softmax),
    "normalize": composed.normalize,
    "batch_norm": F.batch_norm,
    "layer_norm": F.layer_norm,
    "group_norm": F.group_norm,
    "instance_norm": F.instance_norm,
    "rms_norm": F.rms_norm,
}

# Not defined in binary64, for want of an exponential there.
_NO_FLOAT64 = names(
    """sigmoid sigmoid_ silu silu_ tanh tanh_ gelu gelu_ softmax _softmax log_softmax
    _log_softmax"""
)

# Functions that autocast passes by, and the operator in each of them that it casts for.
_CAST_AS = {"square": "pow", "normalize": "linalg_vector_norm"}


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
    """Call an adapter, under autocast with what PyTorch's function of that name would be given.

    Raises:
        UnfitError: it does not take these arguments, or there is no kernel for these tensors.
    """
    if "out" in kwargs:
        # Python functions of PyTorch's hand on the one that they were not given.
        if kwargs["out"] is not None:
            raise UnfitError
        kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    if not _has_kernel(name, args, kwargs):
        raise UnfitError
    try:
        if torch._C._is_any_autocast_enabled():
            return call_as(_CAST_AS.get(name, name), adapter, args, kwargs)
        return adapter(*args, **kwargs)
    except (BatchStatisticsError, MixedHalvesError):
        raise UnfitError from None
