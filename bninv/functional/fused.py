"""Products with what follows them, in one operator: rules R1 or R9, and R2."""

from __future__ import annotations

from torch import Tensor

from bninv._arguments import IntPair, Precision, integers, need_precision, number
from bninv.functional._call import call, ops
from bninv.functional.normalization import Activation


def conv2d_fused(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: Activation = "none",
    negative_slope: float = 0.01,
    precision: Precision = "ieee",
) -> Tensor:
    """`activation(batch_norm(conv2d(input)) + residual)` with the bits of the separate operators:
    each step rounds to the input's dtype before the next one takes it.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as for `conv2d`, with a batch.
        running_mean, running_var: [out_channels] both, or None both: no batch_norm.
        norm_weight, norm_bias: batch_norm's, [out_channels] or None. All four may be float32 beside
            a float16 or bfloat16 input.
        eps: batch_norm's.
        residual: of the result's shape, dtype and device, or None.
        activation: 'none', 'relu', 'relu6', 'silu' (no float64), 'hardswish' or 'leaky_relu'.
        negative_slope: leaky_relu's.
        precision: the product's, as for `conv2d`.

    Returns:
        As `conv2d`. Under autocast input, weight and bias are cast, as those of `conv2d`.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    need_precision(precision)
    return call(
        ops.conv2d_fused.default,
        input,
        weight,
        bias,
        integers(stride, 2, "stride"),
        integers(padding, 2, "padding"),
        integers(dilation, 2, "dilation"),
        groups,
        running_mean,
        running_var,
        norm_weight,
        norm_bias,
        number(eps, "eps"),
        residual,
        activation,
        number(negative_slope, "negative_slope"),
        precision,
    )


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
