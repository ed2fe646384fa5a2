"""torch.einsum of two operands: one product of matrices, or one multiplication an element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bninv import _torch
from bninv._arguments import Precision
from bninv.operators.adapters import need
from bninv.operators.matmul import matmul


def einsum(
    equation: str, *operands: Any, path: Any = None, precision: Precision = "ieee"
) -> Tensor:
    """What an equation of two operands means, but for `...`, diagonals and sums over one of them.

    Contracted indices are one dimension of terms, in the order of their letters, as they are
    PyTorch's.
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    need(isinstance(equation, str) and len(operands) == 2 and path is None)
    left, right, output = _letters(equation, operands)
    sizes = [
        dict(zip(x, t.shape, strict=True)) for x, t in ((left, operands[0]), (right, operands[1]))
    ]
    # A dimension of size 1 beside another one is repeated. A trace cannot ask.
    if _torch.tracing_state() is None:
        need(all(sizes[0][c] == sizes[1][c] for c in left if c in right))

    batch = [c for c in output if c in left and c in right]
    rows = [c for c in output if c in left and c not in right]
    columns = [c for c in output if c in right and c not in left]
    terms = sorted(c for c in left if c in right and c not in output)
    need({*batch, *rows, *terms} == {*left} and {*batch, *columns, *terms} == {*right})
    a = operands[0].permute([left.index(c) for c in (*batch, *rows, *terms)])
    b = operands[1].permute([right.index(c) for c in (*batch, *terms, *columns)])
    found = [*batch, *rows, *columns]
    if terms:
        at = len(batch)
        left_matrices, right_matrices = _matrices(a, at, len(rows)), _matrices(b, at, len(terms))
        product = matmul(left_matrices, right_matrices, precision=precision)
        product = _unflattened(product, at + 1, [sizes[1][c] for c in columns])
        product = _unflattened(product, at, [sizes[0][c] for c in rows])
    else:
        after = (..., *(None for _ in columns))
        between = (*(slice(None) for _ in batch), *(None for _ in rows), ...)
        product = a[after] * b[between]
    return product.permute([found.index(c) for c in output])


def _letters(equation: str, operands: Sequence[Tensor]) -> tuple[str, str, str]:
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    need(inputs.count(",") == 1 and "." not in equation)
    left, _, right = inputs.partition(",")
    if not arrow:
        output = "".join(sorted(c for c in {*left, *right} if (left + right).count(c) == 1))
    need(all(len({*letters}) == len(letters) for letters in (left, right, output)))
    need(operands[0].dim() == len(left) and operands[1].dim() == len(right))
    need({*output} <= {*left, *right})
    return left, right, output


def _matrices(tensor: Tensor, at: int, count: int) -> Tensor:
    """Of the dimensions from `at` on, the first `count` and the others become one each."""
    last = tensor.dim() - at - count
    tensor = tensor.flatten(at + count) if last else tensor.unsqueeze(-1)
    return tensor.flatten(at, at + count - 1) if count else tensor.unsqueeze(at)


def _unflattened(tensor: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    if len(sizes) == 1:
        return tensor
    return tensor.unflatten(dim, sizes) if sizes else tensor.squeeze(dim)
