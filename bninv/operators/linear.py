"""Linear layers: rules R1 and, where `precision` asks for it, R9."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bninv._arguments import Activation, Precision, need_precision, number
from bninv._autocast import result_dtype
from bninv.modules.base import Patched, parameter_of, precision_of
from bninv.modules.fused import After, is_like
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
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


def _linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    precision: Precision = "ieee",
) -> Tensor:
    # A weight of one dimension is one output feature, whose dimension the result lacks.
    row = weight.dim() == 1
    matrix = weight.unsqueeze(0) if row else weight
    need(input.dim() > 0 and matrix.dim() == 2)
    if bias is not None:
        # PyTorch broadcasts it. One of more dimensions is another sum: it is not rounded with ours.
        features = matrix.shape[0]
        need(bias.dim() <= (0 if row else 1) and bias.numel() in (1, features))
        bias = bias.expand(features)
    result = linear(input, matrix, bias, precision=precision)
    return result.squeeze(-1) if row else result


ATEN: dict[str, Adapter] = {"linear": _linear}
PYTHON: dict[str, Adapter] = {}


# ---- Modules -------------------------------------------------------------------------------------


class Linear(Patched):
    panel_parameters = ("weight",)
    weight: Tensor
    bias: Tensor | None

    def invariant_forward(self, input: Tensor) -> Tensor:
        weight, bias = parameter_of(self, "weight"), parameter_of(self, "bias")
        return linear(input, weight, bias, precision=precision_of(self))

    def fused_forward(self, input: Tensor, after: After) -> Tensor | None:
        """`activation(forward(input) + residual)`; None if one operator cannot do it."""
        if not isinstance(input, Tensor):
            return None
        weight = parameter_of(self, "weight")
        shape = (*input.shape[:-1], weight.shape[0])
        fits = is_like(after.residual, input.device, result_dtype("linear", input), shape)
        if not fits:
            return None
        if after.residual is not None and not after.residual.is_contiguous():
            return None
        bias, precision = parameter_of(self, "bias"), precision_of(self)
        return linear_fused(input, weight, bias, **after.epilogue, precision=precision)


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.linear.Linear": Linear,
    "timm.layers.linear.Linear": Linear,
}

__all__ = ["linear", "linear_fused"]
