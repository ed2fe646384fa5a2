"""What PyTorch's functions become: bninv's operators under PyTorch's many signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import BatchStatisticsError, Precision
from bninv._autocast import MixedHalvesError, call_as
from bninv.building import extension
from bninv.dispatch import arithmetic, casts, composed, ordered, selections, sequences
from bninv.dispatch.conditions import tensors_in
from bninv.dispatch.exact import names
from bninv.modules.base import FLOATING
from bninv.operators import ATEN as OWN
from bninv.operators import TORCHVISION, binary, recurrent, unary
from bninv.operators.adapters import Adapter, UnfitError

# Functions that become others by the order of elements alone, in every dtype.
_ORDERING = names(
    "sort argsort msort topk amax amin aminmax max min median nanmedian kthvalue cummax cummin"
)

ATEN: dict[str, Adapter] = {
    **OWN,
    "pow": composed.power,
    "pow_": composed.power_,
    "float_power": composed.float_power,
    "square": composed.square,
    "square_": composed.square_,
    **arithmetic.ATEN,
    **selections.ATEN,
    **sequences.ATEN,
    "col2im": composed.fold,
    "outer": composed.outer,
    "ger": composed.outer,
    "maximum": composed.maximum,
    "minimum": composed.minimum,
    **{name: getattr(ordered, name) for name in sorted(_ORDERING - {"max", "min"})},
}

# For calls that are exact only under some arguments, on some devices: what the others become.
REPAIRS: dict[str, Adapter] = {
    **arithmetic.REPAIRS,
    **casts.REPAIRS,
    **selections.REPAIRS,
    **sequences.REPAIRS,
    "max": ordered.max,
    "min": ordered.min,
}

# Functions that a boolean tensor may tell which elements take part.
_MASKED = {"scaled_dot_product_attention"}

# Functions that autocast passes by, and the operator in each of them that it casts for.
_CAST_AS = {
    "square": "pow",
    **dict.fromkeys(("normalize", "linalg_norm", "pairwise_distance"), "linalg_vector_norm"),
    "__rpow__": "pow",
    "grid_sample": "grid_sampler",
    **dict.fromkeys(("affine_grid", "affine_grid_generator", "einsum"), "bmm"),
}


# Functions made of operators that their arguments choose: they cast for the one that it is.
_CAST_INSIDE = {"interpolate", "upsample", *recurrent.ATEN}
_CAST_INSIDE |= {f"torchvision::{name}" for name in TORCHVISION}
_CAST_INSIDE |= {"batched_nms"}
# Functions whose packed sequences come with how many samples each step has, and boxes with classes.
_COUNTED = {"lstm", "gru", "rnn_tanh", "rnn_relu", "batched_nms"}
# Functions that take their tensors in a list.
OF_LISTS = {"linalg_multi_dot", "chain_matmul", "einsum"}
# Functions that are made of PyTorch's operators alone, in every dtype that those have.
_OF_ANY_DTYPE = {*_ORDERING, *arithmetic.ATEN, *arithmetic.REPAIRS, *casts.REPAIRS}
_OF_ANY_DTYPE |= {"double", "float", "half", "bfloat16", "long", "int", "short", "char", "byte"}
# Functions that are products which R9 reaches, where it is asked for.
_PRODUCTS = names(
    """conv1d conv2d linear matmul mm bmm mv dot vdot addmm addmv addr baddbmm addmm_ addmv_ addr_
    baddbmm_ linalg_multi_dot chain_matmul einsum"""
)
# Functions that may be given no tensor.
OF_NUMBERS = {*sequences.ATEN, *sequences.REPAIRS}
# Methods of a number's exponent, and of its divisor.
OF_A_NUMBER: dict[str, Adapter] = {
    "__rpow__": composed.power_of,
    "__rfloordiv__": binary.REVERSED["floor_divide"],
    "__rmod__": binary.REVERSED["remainder"],
}
# Functions that take integers or booleans too, which they convert first.
_OF_INTEGERS_TOO = {*binary.ATEN, *OF_A_NUMBER, *unary.OF_INTEGERS_TOO}
_OF_INTEGERS_TOO |= names("pow pow_ float_power cumsum cumprod prod")


def _has_kernel(name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
    found = name in OF_NUMBERS
    given = (*args, *kwargs.values()) if kwargs else args
    for tensor in tensors_in(given) if name in OF_LISTS else given:
        if not isinstance(tensor, Tensor):
            continue
        found = True
        device, dtype = tensor.device.type, tensor.dtype
        if tensor.layout != torch.strided or device not in ("cpu", "cuda", "meta"):
            return False
        if (dtype is torch.float32 and device == "cpu") or name in _OF_ANY_DTYPE:
            continue
        if dtype is torch.bool and name in _MASKED:
            continue
        if dtype is torch.int64 and name in _COUNTED:
            continue
        if dtype not in FLOATING and (dtype.is_complex or name not in _OF_INTEGERS_TOO):
            return False
        if device == "cuda" and not extension.has_cuda():
            return False
    return found


# PyTorch takes NumPy's names for some arguments, and the dispatcher's for the first one.
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x2": "other"}
_NUMPY_NAMES |= dict.fromkeys(("self", "x", "a", "x1"), "input")


def call(
    name: str,
    adapter: Adapter,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    precision: Precision = "ieee",
) -> Any:
    """Call an adapter, under autocast with what PyTorch's function of that name would be given.

    Products are those of `precision`.

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
    if precision != "ieee" and name in _PRODUCTS:
        kwargs = {**kwargs, "precision": precision}
    if name in _ORDERING and _torch.tracing_state() is not None:
        raise UnfitError  # TorchScript has no operator for a float's bit pattern
    if kwargs and any(key in _NUMPY_NAMES for key in kwargs):
        kwargs = {_NUMPY_NAMES.get(key, key): value for key, value in kwargs.items()}
    try:
        if _torch.any_autocast() and name not in _CAST_INSIDE:
            return call_as(_CAST_AS.get(name, name), adapter, args, kwargs)
        return adapter(*args, **kwargs)
    except (BatchStatisticsError, MixedHalvesError):
        raise UnfitError from None
