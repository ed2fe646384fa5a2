"""Functions that become several operations, each of bninv's or exact, in one fixed order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv import functional as F
from bninv._arguments import promoted
from bninv.dispatch.conditions import narrows_once, rounds_once
from bninv.dispatch.unfit import need
from bninv.nn.base import FLOATING


def converts_once(input: Tensor, dtype: torch.dtype | None) -> bool:
    """Whether the `dtype` that a call names is None, or one to which the input rounds only once."""
    if dtype is None:
        return True
    return dtype in FLOATING and rounds_once(input.dtype, dtype, narrows_once([input]))


def power(input: Tensor, exponent: Any) -> Tensor:
    need(isinstance(exponent, (int, float)) and exponent == 2)
    return input * input


def power_(input: Tensor, exponent: Any) -> Tensor:
    need(isinstance(exponent, (int, float)) and exponent == 2)
    return input.mul_(input)


def square(input: Tensor) -> Tensor:
    return input * input


def square_(input: Tensor) -> Tensor:
    return input.mul_(input)


def divide(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    # CUDA multiplies by the reciprocal of a number; by a tensor on the device it divides. In half
    # precision the CPU rounds the number to binary32, divides, and rounds once: so does this.
    number = isinstance(other, (int, float)) and not isinstance(other, bool)
    need(number and rounding_mode is None and input.device.type == "cuda")
    wide = input if input.dtype in (torch.float32, torch.float64) else input.float()
    return (wide / wide.new_full((), other)).to(input.dtype)


def divide_(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    return input.copy_(divide(input, other, rounding_mode=rounding_mode))


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return F.var(input, dim, correction=correction, keepdim=keepdim)


def vector_norm(
    input: Tensor,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(ord == 2 and input.is_floating_point())
    # PyTorch refuses a dtype that does not hold the input's values.
    need(dtype is None or (dtype in FLOATING and promoted(input.dtype, dtype) == dtype))
    return F.vector_norm(input, dim, keepdim, dtype=dtype)


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *others: Any,  # torch.norm and Tensor.norm have two orders of `out` and `dtype`
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(not others and (p is None or p == "fro" or p == 2))
    return vector_norm(input, 2, dim, keepdim, dtype=dtype)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    # Product and sum rounded each by itself; a backend's own kernel may contract them.
    tensors = (input, tensor1, tensor2)
    need(value == 1 and all(t.is_floating_point() for t in tensors))
    # A tensor without dimensions counts as a number beside others.
    alike = input.dtype == tensor1.dtype == tensor2.dtype
    need(alike or all(t.dim() > 0 for t in tensors))
    dtype = promoted(promoted(input.dtype, tensor1.dtype), tensor2.dtype)
    wide = dtype if dtype is torch.float64 else torch.float32
    return (input.to(wide) + tensor1.to(wide) * tensor2.to(wide)).to(dtype)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    # R0: NaN wins, and of two zeros +0. Stock chooses one of the zeros by its place in a vector.
    need(input.is_floating_point() and other.is_floating_point())
    larger = torch.where((input > other) | (input != input), input, other)
    return torch.where((input == 0) & (other == 0), input + other, larger)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    need(p == 2 and eps > 0 and input.is_floating_point())
    return input / F.vector_norm(input, dim, True).clamp_min(eps).expand_as(input)
