"""Elementwise functions of one tensor: rule R6."""

from __future__ import annotations

import torch
from torch import Tensor

from bninv._arguments import need_tensor, number
from bninv.functional._call import call, ops


def _unary(name: str, input: Tensor, inplace: bool, *args: object) -> Tensor:
    need_tensor("input", input)
    if not inplace:
        return call(getattr(ops, name).default, input, *args)
    if torch.is_grad_enabled() and input.requires_grad:
        # copy_ keeps the history of an in-place change; the operator alone has none.
        return input.copy_(call(getattr(ops, name).default, input, *args))
    call(getattr(ops, f"{name}_").default, input, *args)
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
    """`x > 0 ? x : x * negative_slope`, the slope rounded to the arithmetic type first."""
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


def sqrt(input: Tensor, inplace: bool = False) -> Tensor:
    """The correctly rounded square root; stock PyTorch's on the CPU is not always."""
    return _unary("sqrt", input, inplace)


def rsqrt(input: Tensor, inplace: bool = False) -> Tensor:
    """`1 / sqrt(x)`, each operation rounded by itself."""
    return _unary("rsqrt", input, inplace)
