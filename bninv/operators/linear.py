"""Linear layers and products of matrices: rules R1 and, where `precision` asks for it, R9."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv._arguments import Activation, Precision, need_precision, need_tensor, number
from bninv._autocast import result_dtype
from bninv.modules.base import Patched
from bninv.modules.fused import After, has_activation, is_like
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, cast_tensors, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import EPILOGUE, Operator


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, precision: Precision = "ieee"
) -> Tensor:
    """`input @ weight.T + bias`, rule R1: fma chains of 128 features added from left to right.

    Args:
        input: [..., in_features]; float32, float64, float16 or bfloat16. The others have its dtype.
        weight: [out_features, in_features]; strides (1, out_features), which `bninv.patch` gives,
            are used in place; others are packed for the call.
        bias: [out_features] or None.
        precision: 'ieee', 'tensor', 'tensor-A' or 'tensor-H', as for `conv2d`.

    Returns:
        [..., out_features], contiguous.
    """
    need_precision(precision)
    return call(ops.linear.default, input, weight, bias, precision)


def linear_fused(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    activation: Activation = "none",
    negative_slope: float = 0.01,
    precision: Precision = "ieee",
) -> Tensor:
    """`activation(linear(input) + residual)` with the bits of the separate operators; the arguments
    are those of `linear` and `conv2d_fused`.
    """
    need_precision(precision)
    slope = number(negative_slope, "negative_slope")
    return call(
        ops.linear_fused.default, input, weight, bias, residual, activation, slope, precision
    )


def matmul(input: Tensor, other: Tensor, *, precision: Precision = "ieee") -> Tensor:
    """`input @ other` by torch.matmul's rules of shape, rule R1 over the last dimension of `input`.

    A product of two batches of matrices runs sample by sample: it is there to be right, for the
    small ones that convolutional networks have. `precision` is as for `conv2d`.
    """
    need_precision(precision)
    need_tensor("input", input)
    need_tensor("other", other)
    if input.dim() == 0 or other.dim() == 0:
        raise ValueError(
            f"`input` and `other` have {input.dim()} and {other.dim()} dimensions; each may have 1 "
            "and more"
        )
    input, other = cast_tensors("matmul", input, other)
    if other.dim() == 1:
        return linear(input, other.unsqueeze(0), precision=precision).squeeze(-1)
    if other.dim() == 2:
        return linear(input, other.t(), precision=precision)
    rows = input if input.dim() > 1 else input.unsqueeze(0)
    batch = torch.broadcast_shapes(rows.shape[:-2], other.shape[:-2])
    left = rows.expand(*batch, *rows.shape[-2:]).reshape(-1, *rows.shape[-2:])
    right = other.expand(*batch, *other.shape[-2:]).reshape(-1, *other.shape[-2:])
    if len(left) == 0:
        return rows.new_empty(*batch, rows.size(-2), other.size(-1))
    products = torch.stack(
        [linear(a, b.t(), precision=precision) for a, b in zip(left, right, strict=True)]
    )
    result = products.reshape(*batch, rows.size(-2), other.size(-1))
    return result if input.dim() > 1 else result.squeeze(-2)


# ---- The operators -------------------------------------------------------------------------------


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    return input.new_empty([*input.shape[:-1], weight.size(0)])


def _draw(draw: Draw) -> list[Any]:
    features = draw.size(max(1, draw.most // 16))
    columns = draw.size(min(1025, max(1, draw.most // features)))
    rows = [draw.size(min(129, draw.most // max(features, columns)))]
    if draw.random.random() < 0.3:
        rows.append(draw.size(3))
    weight = draw.tensor(columns, features)
    if draw.random.random() < 0.5:
        weight = weight.T.contiguous().T
    return [draw.input(*rows, features), weight, draw.maybe(draw.tensor(columns))]


def _draw_fused(draw: Draw) -> list[Any]:
    args = _draw(draw)
    residual = draw.maybe(draw.input(*args[0].shape[:-1], args[1].size(0)))
    return [*args, residual, *draw.epilogue()]


_PRODUCT = "Tensor input, Tensor weight, Tensor? bias"

OPERATORS = [
    Operator("linear", f"({_PRODUCT}, str precision='ieee') -> Tensor", _fake, _draw),
    # A product and what follows it, each step rounded as the separate operators round.
    Operator(
        "linear_fused",
        f"({_PRODUCT}, {EPILOGUE}, str precision='ieee') -> Tensor",
        _fake,
        _draw_fused,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------
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
    return linear(mat1, mat2.t(), input)


def _addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    need(input.shape == mat.shape[:1] and beta == 1 and alpha == 1)
    return linear(vec, mat, input)


def _mm(input: Tensor, mat2: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    need(out_dtype is None)
    return linear(input, mat2.t())


def _bmm(input: Tensor, mat2: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    need(out_dtype is None)
    return matmul(input, mat2)


def _mv(input: Tensor, vec: Tensor) -> Tensor:
    return matmul(input, vec)


def _dot(input: Tensor, tensor: Tensor) -> Tensor:
    return matmul(input, tensor)


def _vdot(input: Tensor, other: Tensor) -> Tensor:
    return matmul(input, other)


ATEN: dict[str, Adapter] = {
    "linear": linear,
    "addmm": _addmm,
    "addmv": _addmv,
    "mm": _mm,
    "mv": _mv,
    "dot": _dot,
    "vdot": _vdot,
    "bmm": _bmm,
    "matmul": matmul,
}
PYTHON: dict[str, Adapter] = {}


# ---- Modules -------------------------------------------------------------------------------------


class Linear(Patched):
    panel_parameters = ("weight",)
    weight: Tensor
    bias: Tensor | None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        """`activation(forward(input) + residual)`; None if one operator cannot do it."""
        if not isinstance(input, Tensor):
            return None
        shape = (*input.shape[:-1], self.weight.shape[0])
        fits = is_like(after.residual, input.device, result_dtype("linear", input), shape)
        if not (fits and has_activation(input, after.activation)):
            return None
        if after.residual is not None and not after.residual.is_contiguous():
            return None
        return linear_fused(input, self.weight, self.bias, **after.epilogue)


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.linear.Linear": Linear,
    "timm.layers.linear.Linear": Linear,
}

__all__ = ["linear", "linear_fused", "matmul"]
