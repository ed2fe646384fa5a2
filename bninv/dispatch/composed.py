"""Functions that become several operations, each of bninv's or exact, in one fixed order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bninv import functional as F
from bninv.dispatch.unfit import need


def power(input: Tensor, exponent: Any) -> Tensor:
    need(isinstance(exponent, (int, float)) and exponent == 2)
    return input * input


def square(input: Tensor) -> Tensor:
    return input * input


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
    need(ord == 2 and dtype is None and input.is_floating_point())
    return F.vector_norm(input, dim, keepdim)


def addcmul(input: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    # Product and sum rounded each by itself; a backend's own kernel may contract them.
    need(value == 1 and input.is_floating_point() and input.dtype == a.dtype == b.dtype)
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    return (input.to(wide) + a.to(wide) * b.to(wide)).to(input.dtype)


def maximum(a: Tensor, b: Tensor) -> Tensor:
    # R0: NaN wins, and of two zeros +0. Stock chooses one of the zeros by its place in a vector.
    need(a.is_floating_point() and b.is_floating_point())
    larger = torch.where((a > b) | (a != a), a, b)
    return torch.where((a == 0) & (b == 0), a + b, larger)


def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    need(p == 2 and out is None and eps > 0 and input.is_floating_point())
    return input / F.vector_norm(input, dim, True).clamp_min(eps).expand_as(input)
