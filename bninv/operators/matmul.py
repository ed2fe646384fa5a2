"""Products of matrices: rules R1 and, where `precision` asks for it, R9.

A product with one matrix is `linear`. That of two batches of matrices is an operator of its own,
`bmm`, with the bits of `linear` for each sample; `baddbmm` goes on from there as PyTorch's does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import Precision, need_precision, need_tensor, number
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, cast_tensors, ops
from bninv.operators.draw import Draw
from bninv.operators.linear import linear
from bninv.operators.operator import Operator


def matmul(input: Tensor, other: Tensor, *, precision: Precision = "ieee") -> Tensor:
    """`input @ other` by torch.matmul's rules of shape, rule R1 over the last dimension of `input`.

    Of three dimensions, operands of any strides are read in place on a CPU; on a GPU what is not
    dense in its last dimension is copied for the call. `precision` is as for `conv2d`.
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
    traced = _torch.tracing_state() is not None  # a comparison of sizes would be a constant of it
    # A batch, or one of groups: the operator finds its matrices itself.
    grouped = not traced and input.dim() == other.dim() in (3, 4)
    if grouped and input.shape[:-2] == other.shape[:-2]:
        return call(ops.bmm.default, input, other, precision)
    rows = input if input.dim() > 1 else input.unsqueeze(0)
    batch = torch.broadcast_shapes(rows.shape[:-2], other.shape[:-2])
    left, right = rows.expand(*batch, *rows.shape[-2:]), other.expand(*batch, *other.shape[-2:])
    if len(batch) == 2 and not traced:
        result = call(ops.bmm.default, left, right, precision)
        return result if input.dim() > 1 else result.squeeze(-2)
    left, right = left.flatten(0, -3), right.flatten(0, -3)
    products = call(ops.bmm.default, left, right, precision)
    result = products.unflatten(0, batch) if len(batch) > 1 else products
    return result if input.dim() > 1 else result.squeeze(-2)


def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    precision: Precision = "ieee",
) -> Tensor:
    """`alpha * (batch1 @ batch2) + beta * input`: rule R1's product, and its last steps.

    Args:
        input: what broadcasts to the result; of its dtype. Ignored, NaN and all, if `beta` is 0.
        batch1: [batch, rows, features]; float32, float64, float16 or bfloat16.
        batch2: [batch, features, columns].
        beta, alpha: numbers, rounded to the arithmetic type.
        precision: as for `conv2d`.

    Returns:
        [batch, rows, columns], contiguous; rounded to the dtype once, at the end.
    """
    need_precision(precision)
    for name, tensor in (("input", input), ("batch1", batch1), ("batch2", batch2)):
        need_tensor(name, tensor)
    input, batch1, batch2 = cast_tensors("baddbmm", input, batch1, batch2)
    if batch1.dim() == 3 and batch2.dim() == 3:
        shape = (batch1.shape[0], batch1.shape[1], batch2.shape[2])
        try:
            input = input.expand(shape)
        except RuntimeError:
            raise ValueError(
                f"`input` has shape {list(input.shape)}; it may be one that broadcasts to the "
                f"result's, {list(shape)}"
            ) from None
    numbers = number(beta, "beta"), number(alpha, "alpha")
    return call(ops.baddbmm.default, input, batch1, batch2, *numbers, precision)


# ---- The operators -------------------------------------------------------------------------------


def _fake_bmm(input: Tensor, mat2: Tensor, *_: Any) -> Tensor:
    return input.new_empty(*input.shape[:-1], mat2.size(-1))


def _fake_baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *_: Any) -> Tensor:
    return _fake_bmm(batch1, batch2)


def _draw_bmm(draw: Draw) -> list[Any]:
    samples, features = draw.random.randint(0, 4), draw.size(max(1, draw.most // 64))
    rows, columns = (draw.size(min(65, max(1, draw.most // (4 * features)))) for _ in range(2))
    operands = []
    for shape in ((samples, rows, features), (samples, features, columns)):
        way = draw.random.random()
        if way < 0.2:  # the same matrix for all
            operands.append(draw.tensor(1, *shape[1:]).expand(shape))
        elif way < 0.5:
            operands.append(draw.input(shape[0], shape[2], shape[1]).transpose(1, 2))
        else:
            operands.append(draw.input(*shape))
    return operands


def _draw_baddbmm(draw: Draw) -> list[Any]:
    left, right = _draw_bmm(draw)
    numbers = [draw.random.choice((0.0, 1.0, -0.3)) for _ in range(2)]
    return [draw.input(left.size(0), left.size(1), right.size(2)), left, right, *numbers]


OPERATORS = [
    Operator(
        "bmm", "(Tensor input, Tensor mat2, str precision='ieee') -> Tensor", _fake_bmm, _draw_bmm
    ),
    Operator(
        "baddbmm",
        "(Tensor input, Tensor batch1, Tensor batch2, float beta=1, float alpha=1, "
        "str precision='ieee') -> Tensor",
        _fake_baddbmm,
        _draw_baddbmm,
    ),
]


# ---- PyTorch's signatures ------------------------------------------------------------------------
# What PyTorch's cuBLAS does with an `out_dtype`, wider than the operands, has no operator here.


def _addmm(
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    out_dtype: torch.dtype | None = None,
    **how: Any,  # beta, alpha, precision
) -> Tensor:
    need(out_dtype is None and mat1.dim() == 2 and mat2.dim() == 2)
    if input.shape == mat2.shape[1:] and _adds_all(how):
        return linear(mat1, mat2.t(), input, precision=how.get("precision", "ieee"))
    need(input.dim() <= 2)
    return baddbmm(input, mat1[None], mat2[None], **how)[0]


def _addmv(input: Tensor, mat: Tensor, vec: Tensor, **how: Any) -> Tensor:
    need(mat.dim() == 2 and vec.dim() == 1 and input.dim() <= 1)
    if input.shape == mat.shape[:1] and _adds_all(how):
        return linear(vec, mat, input, precision=how.get("precision", "ieee"))
    column = input.unsqueeze(-1) if input.dim() == 1 else input
    return _addmm(column, mat, vec.unsqueeze(1), **how).squeeze(1)


def _adds_all(how: Mapping[str, Any]) -> bool:
    return how.get("beta", 1) == 1 and how.get("alpha", 1) == 1


def _addr(input: Tensor, vec1: Tensor, vec2: Tensor, **how: Any) -> Tensor:
    # A product of one term.
    need(vec1.dim() == 1 and vec2.dim() == 1 and input.dim() <= 2)
    return baddbmm(input, vec1[None, :, None], vec2[None, None], **how)[0]


def _baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    out_dtype: torch.dtype | None = None,
    **how: Any,
) -> Tensor:
    need(out_dtype is None and input.dim() <= 3)
    return baddbmm(input, batch1, batch2, **how)


def _in_place(function: Adapter) -> Adapter:
    def adapter(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return input.copy_(function(input, *args, **kwargs))

    return adapter


def _mm(
    input: Tensor,
    mat2: Tensor,
    out_dtype: torch.dtype | None = None,
    *,
    precision: Precision = "ieee",
) -> Tensor:
    need(out_dtype is None)
    return linear(input, mat2.t(), precision=precision)


def _bmm(
    input: Tensor,
    mat2: Tensor,
    out_dtype: torch.dtype | None = None,
    *,
    precision: Precision = "ieee",
) -> Tensor:
    need(out_dtype is None)
    return matmul(input, mat2, precision=precision)


def _mv(input: Tensor, vec: Tensor, *, precision: Precision = "ieee") -> Tensor:
    return matmul(input, vec, precision=precision)


def _dot(input: Tensor, tensor: Tensor, *, precision: Precision = "ieee") -> Tensor:
    return matmul(input, tensor, precision=precision)


def _vdot(input: Tensor, other: Tensor, *, precision: Precision = "ieee") -> Tensor:
    return matmul(input, other, precision=precision)


def _multi_dot(tensors: Sequence[Tensor], *, precision: Precision = "ieee") -> Tensor:
    # PyTorch takes the cheapest order, which the batch has a say in: here it is left to right.
    first, last = tensors[0], tensors[-1]
    need(len(tensors) >= 2 and all(t.dim() == 2 for t in tensors[1:-1]))
    need(first.dim() in (1, 2) and last.dim() in (1, 2))
    return reduce(partial(matmul, precision=precision), tensors)


def _chain_matmul(matrices: Sequence[Tensor], *, precision: Precision = "ieee") -> Tensor:
    need(len(matrices) >= 1 and all(matrix.dim() == 2 for matrix in matrices))
    return reduce(partial(matmul, precision=precision), matrices)


def chain_matmul(*matrices: Tensor, precision: Precision = "ieee") -> Tensor:
    """torch.chain_matmul, whose function in Python takes the matrices one by one."""
    return _chain_matmul(matrices, precision=precision)


ATEN: dict[str, Adapter] = {
    "addmm": _addmm,
    "addmv": _addmv,
    "mm": _mm,
    "mv": _mv,
    "dot": _dot,
    "vdot": _vdot,
    "addr": _addr,
    "baddbmm": _baddbmm,
    "addmm_": _in_place(_addmm),
    "addmv_": _in_place(_addmv),
    "addr_": _in_place(_addr),
    "baddbmm_": _in_place(_baddbmm),
    "bmm": _bmm,
    "matmul": matmul,
    "linalg_multi_dot": _multi_dot,
    "chain_matmul": _chain_matmul,
}
PYTHON: dict[str, Adapter] = {}

__all__ = ["baddbmm", "matmul"]
