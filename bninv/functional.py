"""The contract's operators under the names and signatures of `torch.nn.functional`.

Every element of a result is one fixed expression of IEEE operations (docs/numerics.md), so it
depends neither on the batch size, the position in the batch and the other samples, nor on memory
format, thread count, instruction set or device. Inputs and parameters are float32 tensors on the
CPU. The elementwise functions also take float16 and bfloat16, and those without an exponential
float64; `batch_norm` takes all four, on a GPU as well. Other dtypes and devices raise an error. The
first eager call compiles the operators if nobody has yet.

Gradients: a result of inputs that require gradients carries a `grad_fn` whose backward raises
NotImplementedError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bninv._arguments import (
    IntPair,
    explain_tensors,
    integers,
    need_ieee,
    need_tensor,
    number,
    refuse_autocast,
)

_ops = torch.ops.bninv

# What may follow an operator in its kernel.
Activation = Literal["none", "relu", "relu6", "silu", "hardswish", "leaky_relu"]


def _call(op: Any, input: Tensor, *args: Any) -> Any:
    """Call an operator, leaving autograd out where nothing asks for it.

    The gradient's registration is a Python kernel; passing it by saves microseconds a call. A
    compiler and other tensor subclasses see the plain call.
    """
    try:
        refuse_autocast(input)
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return op(input, *args)
        with torch._C._AutoDispatchBelowAutograd():
            return op(input, *args)
    except (AttributeError, RuntimeError, TypeError):
        explain_tensors(op, (input, *args))
        raise


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: Activation = "none",
    negative_slope: float = 0.01,
) -> Tensor:
    """Batch normalization by given statistics, rule R2, and what often follows it.

    `s = weight / sqrt(running_var + eps)`, `y = fma(x - running_mean, s, bias)`, s recomputed from
    the parameters at every call; then `activation(y + residual)`. With a residual or an activation
    the bits are those of the separate operators: each boundary rounds to the input's dtype.

    Args:
        input: [batch, channels, ...], any strides; float32, float64, float16 or bfloat16, on the
            CPU or, where bninv was built with CUDA, on a GPU.
        running_mean, running_var: [channels], of the input's dtype, or float32 beside a float16 or
            bfloat16 input.
        weight, bias: likewise; missing ones are 1 and 0.
        training: must be False: the batch's own statistics depend on the batch.
        momentum: unused, as in torch's eval form.
        eps: added to the variance; rounded first to float32, or kept for a float64 input.
        residual: added to the result; of the input's shape and dtype, any strides.
        activation: 'none', 'relu', 'relu6', 'silu' (not in float64), 'hardswish' or 'leaky_relu'.
        negative_slope: leaky_relu's.

    Returns:
        A tensor of the input's shape and dtype, and of its strides where it is dense with the
        channels fastest or slowest, else contiguous.

    Raises:
        ValueError: `training` is set or statistics are missing.
        RuntimeError: a dtype, shape or device does not fit.
    """
    if training:
        raise ValueError(
            "`training` is True; it may be False: the batch's own statistics move with the batch"
        )
    if running_mean is None or running_var is None:
        raise ValueError(
            "`running_mean` and `running_var` are missing; without them batch_norm uses the "
            "batch's own statistics, which move with the batch"
        )
    epilogue = (
        ()
        if residual is None and activation == "none"
        else (
            residual,
            activation,
            number(negative_slope, "negative_slope"),
        )
    )
    return _call(
        _ops.batch_norm.default,
        input,
        running_mean,
        running_var,
        weight,
        bias,
        number(eps, "eps"),
        *epilogue,
    )


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | Literal["same", "valid"] = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    precision: str = "ieee",
) -> Tensor:
    """2-d convolution, rule R1: terms in the order `(r * kernel_w + s) * channels_per_group + c`,
    fma chains of 128 terms added from left to right, then the bias. Taps on padding are terms with
    input +0.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        weight: [out_channels, channels / groups, kernel_h, kernel_w]. The (r, s, c, o) strides that
            `bninv.patch` gives are used in place; others are packed for the call.
        bias: [out_channels] or None.
        padding: integers, 'valid', or 'same' (stride 1 only).
        precision: 'ieee', the only value for now.

    Returns:
        [batch, out_channels, out_h, out_w]: channels_last if the input or the weight is (the panel
        counts as such), else contiguous.

    Raises:
        ValueError, RuntimeError: an argument does not fit; the message names it.
    """
    need_ieee(precision)
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() == 3:
        batch = input.unsqueeze(0)
        return conv2d(batch, weight, bias, stride, padding, dilation, groups).squeeze(0)
    strides, dilations = integers(stride, 2, "stride"), integers(dilation, 2, "dilation")
    if isinstance(padding, str):
        input, paddings = _pad_named(input, weight, padding, strides, dilations)
    else:
        paddings = integers(padding, 2, "padding")
    return _call(_ops.conv2d.default, input, weight, bias, strides, paddings, dilations, groups)


def _pad_named(
    input: Tensor, weight: Tensor, padding: str, stride: list[int], dilation: list[int]
) -> tuple[Tensor, list[int]]:
    if padding == "valid":
        return input, [0, 0]
    if padding != "same":
        raise ValueError(f"`padding` is {padding!r}; it may be integers, 'same' or 'valid'")
    if any(s != 1 for s in stride):
        raise ValueError(f"`padding` 'same' needs a `stride` of 1; it is {stride}")
    totals = [dilation[i] * (weight.size(i + 2) - 1) for i in range(weight.dim() - 2)]
    if all(total % 2 == 0 for total in totals):
        return input, [total // 2 for total in totals]
    # PyTorch puts the odd element at the end. Padding moves data and rounds nothing.
    amounts = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
    return torch.nn.functional.pad(input, amounts), [0] * len(totals)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | Literal["same", "valid"] = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    precision: str = "ieee",
) -> Tensor:
    """1-d convolution, rule R1: `conv2d` with a kernel height of 1.

    Args:
        input: [batch, channels, length] or [channels, length].
        weight: [out_channels, channels / groups, kernel].
        Others as for `conv2d`.

    Returns:
        [batch, out_channels, out_length], contiguous unless the weight's strides are the panel's.
    """
    need_tensor("input", input)
    need_tensor("weight", weight)
    if input.dim() not in (2, 3):
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [batch, channels, length] or "
            "[channels, length]"
        )
    if weight.dim() != 3:
        raise ValueError(
            f"`weight` has shape {list(weight.shape)}; it may be "
            "[out_channels, channels / groups, kernel]"
        )
    if not isinstance(padding, str):
        padding = [0, *integers(padding, 1, "padding")]
    return conv2d(
        input.unsqueeze(-2),
        weight.unsqueeze(2),
        bias,
        [1, *integers(stride, 1, "stride")],
        padding,
        [1, *integers(dilation, 1, "dilation")],
        groups,
        precision=precision,
    ).squeeze(-2)


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, precision: str = "ieee"
) -> Tensor:
    """`input @ weight.T + bias`, rule R1: fma chains of 128 features added from left to right.

    Args:
        input: [..., in_features].
        weight: [out_features, in_features]; strides (1, out_features), which `bninv.patch` gives,
            are used in place; others are packed for the call.
        bias: [out_features] or None.
        precision: 'ieee', the only value for now.

    Returns:
        [..., out_features], contiguous.
    """
    need_ieee(precision)
    return _call(_ops.linear.default, input, weight, bias)


# ---- Pooling and reductions: R3 ------------------------------------------------------------------


def _pool_as_2d(input: Tensor, spatial: int) -> tuple[Tensor, Any]:
    """The input as [batch, channels, height, width], and what undoes that on the result."""
    need_tensor("input", input)
    dims = spatial + 2
    if input.dim() not in (dims - 1, dims):
        names = ["batch", "channels", "length"] if spatial == 1 else ["batch", "channels", "h", "w"]
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [{', '.join(names)}] or the same "
            "without the batch"
        )
    unbatched = input.dim() == dims - 1
    x = input.unsqueeze(0) if unbatched else input
    x = x.unsqueeze(2) if spatial == 1 else x

    def restore(y: Tensor) -> Tensor:
        y = y.squeeze(2) if spatial == 1 else y
        return y.squeeze(0) if unbatched else y

    return x, restore


def _windows(value: IntPair | None, default: list[int], spatial: int, argument: str) -> list[int]:
    """Per-dimension integers, with the 1-d form's height filled in as for the kernel's 1."""
    if value is None or (isinstance(value, Sequence) and len(value) == 0):
        return default
    fill = {"padding": 0}.get(argument, 1)
    return [fill] * (2 - spatial) + integers(value, spatial, argument)


def _avg_pool(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: IntPair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    spatial: int,
) -> Tensor:
    x, restore = _pool_as_2d(input, spatial)
    kernel = _windows(kernel_size, [], spatial, "kernel_size")
    return restore(
        _call(
            _ops.avg_pool2d.default,
            x,
            kernel,
            _windows(stride, kernel, spatial, "stride"),
            _windows(padding, [0, 0], spatial, "padding"),
            bool(ceil_mode),
            bool(count_include_pad),
            divisor_override,
        )
    )


def avg_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows, rule R3 over the elements that exist, divided as PyTorch documents.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        Others as for `torch.nn.functional.avg_pool2d`.
    """
    return _avg_pool(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`avg_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _avg_pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, 1)


def _max_pool(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: IntPair,
    dilation: IntPair,
    ceil_mode: bool,
    return_indices: bool,
    spatial: int,
) -> Tensor:
    if return_indices:
        raise NotImplementedError("`return_indices` is True; it may be False")
    x, restore = _pool_as_2d(input, spatial)
    kernel = _windows(kernel_size, [], spatial, "kernel_size")
    return restore(
        _call(
            _ops.max_pool2d.default,
            x,
            kernel,
            _windows(stride, kernel, spatial, "stride"),
            _windows(padding, [0, 0], spatial, "padding"),
            _windows(dilation, [1, 1], spatial, "dilation"),
            bool(ceil_mode),
        )
    )


def max_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Largest element of each window, exact: NaN wins, +0 is greater than -0.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        return_indices: must be False.
        Others as for `torch.nn.functional.max_pool2d`.
    """
    return _max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 2)


def max_pool1d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """`max_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 1)


OutputSize = int | None | Sequence[int | None]


def _adaptive(op: Any, input: Tensor, output_size: OutputSize, spatial: int) -> Tensor:
    x, restore = _pool_as_2d(input, spatial)
    listed = output_size if isinstance(output_size, Sequence) else [output_size] * spatial
    if len(listed) != spatial:
        raise ValueError(
            f"`output_size` is {output_size!r}; it may be one size or {spatial} of them"
        )
    sizes = [1] * (2 - spatial) + [
        x.size(4 - spatial + i) if size is None else size for i, size in enumerate(listed)
    ]
    return restore(_call(op, x, sizes))


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average over PyTorch's adaptive windows, rule R3.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        output_size: one size or (height, width); None keeps the input's.
    """
    return _adaptive(_ops.adaptive_avg_pool2d.default, input, output_size, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """`adaptive_avg_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _adaptive(_ops.adaptive_avg_pool2d.default, input, output_size, 1)


def adaptive_max_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Largest element of PyTorch's adaptive windows, exact: NaN wins, +0 is greater than -0."""
    return _adaptive(_ops.adaptive_max_pool2d.default, input, output_size, 2)


def adaptive_max_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """`adaptive_max_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _adaptive(_ops.adaptive_max_pool2d.default, input, output_size, 1)


def _dims(dim: int | Sequence[int] | None) -> list[int]:
    if dim is None:
        return []
    return integers(dim, len(dim) if isinstance(dim, Sequence) else 1, "dim")


def sum(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim` (all dimensions if None or empty), rule R3: 32 lanes, segments of 4096 terms,
    terms in row-major order of their logical indices whatever the strides. Empty: +0.
    """
    return _call(_ops.sum.default, input, _dims(dim), keepdim)


def mean(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """`sum` divided by the number of terms, rule R3. Empty: NaN."""
    return _call(_ops.mean.default, input, _dims(dim), keepdim)


# ---- Elementwise: R6 -----------------------------------------------------------------------------


def _unary(name: str, input: Tensor, inplace: bool, *args: Any) -> Tensor:
    need_tensor("input", input)
    if not inplace:
        return _call(getattr(_ops, name).default, input, *args)
    if torch.is_grad_enabled() and input.requires_grad:
        # copy_ keeps the history of an in-place change; the operator alone has none.
        return input.copy_(_call(getattr(_ops, name).default, input, *args))
    _call(getattr(_ops, f"{name}_").default, input, *args)
    if not torch.compiler.is_compiling() and not input.is_inference():
        # A backward that saved this tensor must notice the change.
        torch.autograd.graph.increment_version(input)
    return input


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : +0`; NaN stays NaN."""
    return _unary("relu", input, inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`, exact."""
    return _unary("relu6", input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : x * negative_slope`, the slope rounded to float32 first."""
    return _unary("leaky_relu", input, inplace, number(negative_slope, "negative_slope"))


def sigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`1 / (1 + exp(-x))` within 2 ulp; the exact expression is in docs/functions.md."""
    return _unary("sigmoid", input, inplace)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * sigmoid(x)` within 2 ulp; the exact expression is in docs/functions.md."""
    return _unary("silu", input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * relu6(x + 3) / 6`; the exact expression is in docs/functions.md."""
    return _unary("hardswish", input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`relu6(x + 3) / 6`; the exact expression is in docs/functions.md."""
    return _unary("hardsigmoid", input, inplace)


def gelu(input: Tensor, approximate: str = "none", inplace: bool = False) -> Tensor:
    """`x * Phi(x)` within 2 ulp, or its tanh form; exact expressions are in docs/functions.md.

    Args:
        approximate: 'none' or 'tanh'.
    """
    return _unary("gelu", input, inplace, approximate)


def tanh(input: Tensor, inplace: bool = False) -> Tensor:
    """Hyperbolic tangent within 2 ulp; the exact expression is in docs/functions.md."""
    return _unary("tanh", input, inplace)
