"""Norms, and distances and similarities made of them: rule R3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import need_tensor, number, promoted
from bninv._rounding import widened
from bninv.modules.base import FLOATING
from bninv.operators.adapters import Adapter, need
from bninv.operators.binary import pow
from bninv.operators.call import cast_tensors, converted
from bninv.operators.operator import Operator
from bninv.operators.sum import sum, the_dims
from bninv.operators.unary import sqrt


def vector_norm(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    ord: float = 2,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A vector norm; the Euclidean one, `sqrt(sum(x * x))`, by default. Sums by rule R3, products
    and root one rounding each in the arithmetic type; the result rounds once more to a 16-bit one.

    Args:
        dim: one dimension or several; all of them if None or empty.
        ord: 2; 1, the sum of sizes; infinity, the largest size, and -infinity, the smallest; 0,
            how many elements are not 0; of any other p it is `pow(sum(pow(|x|, p)), 1 / p)`.
        dtype: what the input is widened to first, as in torch.linalg.vector_norm; its own by
            default.

    Raises:
        ValueError: `dtype` does not hold every value of the input's, or `ord` is NaN.
    """
    need_tensor("input", input)
    if math.isnan(number(ord, "ord")):
        raise ValueError("`ord` is NaN; it may be any number")
    if dtype is None:
        (input,) = cast_tensors("linalg_vector_norm", input)
    source, input = input.dtype, converted(input, dtype)
    if promoted(source, input.dtype) != input.dtype:
        raise ValueError(
            f"`dtype` is {dtype} for an `input` of {source}; it may be one that holds its values"
        )
    return _norm(widened(input), ord, the_dims(dim), keepdim).to(input.dtype)


def _norm(x: Tensor, ord: float, dims: list[int], keepdim: bool) -> Tensor:
    """Of a tensor in the arithmetic type."""
    if ord == 2:
        return sqrt(sum(x * x, dims, keepdim))
    if ord == 1:
        return sum(x.abs(), dims, keepdim)
    if ord == 0:
        return sum((x != 0).to(x.dtype), dims, keepdim)
    if math.isinf(ord):
        # Of sizes there is one zero, so that no choice is left.
        return (torch.amax if ord > 0 else torch.amin)(x.abs(), dims, keepdim)
    return pow(sum(pow(x.abs(), ord), dims, keepdim), 1 / ord)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """`x / max(norm, eps)`, the norm being `vector_norm` of order `p` along `dim`."""
    norm = vector_norm(input, dim, True, ord=p)
    return input / norm.clamp_min(number(eps, "eps")).expand_as(input)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """`sum((x1 / max(|x1|, eps)) * (x2 / max(|x2|, eps)))` along `dim`, norms and sum by rule R3;
    rounded once to a 16-bit type.
    """
    a, b, dtype = _pair("cosine_similarity", x1, x2)
    least = number(eps, "eps")
    a, b = (x / _norm(x, 2, [dim], True).clamp_min(least) for x in torch.broadcast_tensors(a, b))
    return sum(a * b, dim).to(dtype)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """`vector_norm((x1 - x2) + eps)` of order `p` along the last dimension; in the arithmetic type
    throughout, rounded once to a 16-bit one.
    """
    a, b, dtype = _pair("linalg_vector_norm", x1, x2)
    return vector_norm((a - b) + number(eps, "eps"), -1, keepdim, ord=p).to(dtype)


def _pair(name: str, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both in the arithmetic type, and the dtype of what is made of them."""
    need_tensor("x1", x1)
    need_tensor("x2", x2)
    x1, x2 = cast_tensors(name, x1, x2)
    dtype = promoted(x1.dtype, x2.dtype)
    return widened(x1.to(dtype)), widened(x2.to(dtype)), dtype


OPERATORS: list[Operator] = []


# ---- PyTorch's signatures ------------------------------------------------------------------------

# Differences of a cdist that are in memory at a time.
_CDIST_ELEMENTS = 2**24


def _aten_vector_norm(
    input: Tensor,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(ord == ord and input.is_floating_point())
    # PyTorch has a message for the largest of nothing.
    need(0 <= ord < math.inf or input.numel() > 0)
    # PyTorch refuses a dtype that does not hold the input's values.
    need(dtype is None or (dtype in FLOATING and promoted(input.dtype, dtype) == dtype))
    return vector_norm(input, dim, keepdim, ord=ord, dtype=dtype)


def _aten_norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *others: Any,  # torch.norm and Tensor.norm have two orders of `out` and `dtype`
    dtype: torch.dtype | None = None,
) -> Tensor:
    need(not others and (p is None or p == "fro" or isinstance(p, (int, float))))
    ord = p if isinstance(p, (int, float)) else 2
    return _aten_vector_norm(input, ord, dim, keepdim, dtype=dtype)


def _linalg_norm(
    input: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    # Of two dimensions an order is that of a matrix.
    vector = isinstance(dim, int) or (dim is None and (ord is None or input.dim() == 1))
    need(vector and (ord is None or isinstance(ord, (int, float))))
    return _aten_vector_norm(input, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def _normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    need(p == p and eps > 0 and input.is_floating_point() and input.numel() > 0)
    return normalize(input, p, dim, eps)


def _pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    need(p == p and x1.is_floating_point() and x2.is_floating_point() and x1.numel() > 0)
    return pairwise_distance(x1, x2, p, eps, keepdim)


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    need(x1.is_floating_point() and x2.is_floating_point() and eps > 0)
    return cosine_similarity(x1, x2, dim, eps)


def _dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    need(p == p and input.is_floating_point() and other.is_floating_point())
    need(input.numel() > 0 and other.numel() > 0)
    a, b, dtype = _pair("dist", input, other)
    return vector_norm(a - b, ord=p).to(dtype)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """Norms of differences, in every mode: no product of matrices takes their place."""
    need(p >= 0 and x1.dtype == x2.dtype and x1.is_floating_point())
    need(min(x1.dim(), x2.dim()) > 1 and x1.shape[-1] == x2.shape[-1])
    need(x1.numel() > 0 and x2.numel() > 0)
    batch = math.prod(torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2]))
    rows = max(1, _CDIST_ELEMENTS // (batch * x2.shape[-2] * x2.shape[-1]))
    return torch.cat(
        [
            vector_norm(part.unsqueeze(-2) - x2.unsqueeze(-3), -1, ord=p)
            for part in x1.split(rows, -2)
        ],
        -2,
    )


def _cdist_forward(x1: Tensor, x2: Tensor, p: float, compute_mode: Any) -> Tensor:
    return _cdist(x1, x2, p)


ATEN: dict[str, Adapter] = {
    "norm": _aten_norm,
    "linalg_vector_norm": _aten_vector_norm,
    "linalg_norm": _linalg_norm,
    "cosine_similarity": _cosine_similarity,
    "pairwise_distance": _pairwise_distance,
    "dist": _dist,
    "cdist": _cdist,
    "_cdist_forward": _cdist_forward,
}
PYTHON: dict[str, Adapter] = {"normalize": _normalize}

__all__ = ["cosine_similarity", "normalize", "pairwise_distance", "vector_norm"]
