"""Products of matrices: rules R1 and, where `precision` asks for it, R9.

A product with one matrix is `linear`. That of two batches of matrices is an operator of its own,
which runs `linear` sample by sample: a graph then holds one call, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import Precision, need_precision, need_tensor
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, cast_tensors, ops
from bninv.operators.draw import Draw
from bninv.operators.linear import linear
from bninv.operators.operator import Operator


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
    left = rows.expand(*batch, *rows.shape[-2:]).flatten(0, -3)
    right = other.expand(*batch, *other.shape[-2:]).flatten(0, -3)
    products = call(ops.bmm.default, left, right, precision)
    result = products.unflatten(0, batch) if len(batch) > 1 else products
    return result if input.dim() > 1 else result.squeeze(-2)


# ---- The operator --------------------------------------------------------------------------------


def _bmm_samples(input: Tensor, mat2: Tensor, precision: str = "ieee") -> Tensor:
    _need_batches(input, mat2)
    result = input.new_empty(len(input), input.size(1), mat2.size(2))
    for sample, left, right in zip(result, input, mat2, strict=True):
        sample.copy_(ops.linear.default(left, right.t(), None, precision))
    return result


def _need_batches(input: Tensor, mat2: Tensor) -> None:
    for name, tensor in (("input", input), ("mat2", mat2)):
        if tensor.dim() != 3:
            raise ValueError(
                f"`{name}` has {tensor.dim()} dimensions; it may have 3: batch, rows, columns"
            )
    if mat2.size(0) != input.size(0) or mat2.size(1) != input.size(2):
        raise ValueError(
            f"`mat2` has shape {list(mat2.shape)}; beside an `input` of {list(input.shape)} it may "
            f"be [{input.size(0)}, {input.size(2)}, columns]"
        )


def _fake_bmm(input: Tensor, mat2: Tensor, *_: Any) -> Tensor:
    _need_batches(input, mat2)
    return input.new_empty(input.size(0), input.size(1), mat2.size(2))


def _draw_bmm(draw: Draw) -> list[Any]:
    samples, features = draw.random.randint(0, 4), draw.size(max(1, draw.most // 64))
    rows, columns = (draw.size(min(65, max(1, draw.most // (4 * features)))) for _ in range(2))
    return [draw.input(samples, rows, features), draw.input(samples, features, columns)]


OPERATORS = [
    Operator(
        "bmm",
        "(Tensor input, Tensor mat2, str precision='ieee') -> Tensor",
        _fake_bmm,
        _draw_bmm,
        kernel=_bmm_samples,
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


def _multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    # PyTorch takes the cheapest order, which the batch has a say in: here it is left to right.
    first, last = tensors[0], tensors[-1]
    need(len(tensors) >= 2 and all(t.dim() == 2 for t in tensors[1:-1]))
    need(first.dim() in (1, 2) and last.dim() in (1, 2))
    return reduce(matmul, tensors)


def _chain_matmul(matrices: Sequence[Tensor]) -> Tensor:
    need(len(matrices) >= 1 and all(matrix.dim() == 2 for matrix in matrices))
    return reduce(matmul, matrices)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """torch.chain_matmul, whose function in Python takes the matrices one by one."""
    return _chain_matmul(matrices)


ATEN: dict[str, Adapter] = {
    "addmm": _addmm,
    "addmv": _addmv,
    "mm": _mm,
    "mv": _mv,
    "dot": _dot,
    "vdot": _vdot,
    "bmm": _bmm,
    "matmul": matmul,
    "linalg_multi_dot": _multi_dot,
    "chain_matmul": _chain_matmul,
}
PYTHON: dict[str, Adapter] = {}

__all__ = ["matmul"]
