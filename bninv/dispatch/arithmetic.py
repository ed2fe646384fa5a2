"""Sums, products, quotients and comparisons that stock computes in more than one way.

Half precision beside a number, which a backend rounds to half first, or not; integers beside
floats; factors that a backend may contract. Here operands are converted to the arithmetic type,
each operation in it rounds by itself, and the result is rounded to its own dtype once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import promoted
from bninv._rounding import widened
from bninv.building import extension
from bninv.dispatch import casts
from bninv.dispatch.conditions import tensors_in
from bninv.modules.base import FLOATING
from bninv.operators import binary
from bninv.operators.adapters import Adapter, need


def operands(input: Any, other: Any) -> tuple[Tensor, Any, torch.dtype]:
    """Two tensors, or one and a number, in the arithmetic type; the dtype of their result."""
    need(isinstance(input, Tensor) and isinstance(other, (Tensor, int, float)))
    dtype = binary.result_dtype(input, other)
    need(dtype in FLOATING)
    wide = dtype if dtype is torch.float64 else torch.float32
    return input.to(wide), other.to(wide) if isinstance(other, Tensor) else other, dtype


def _scaled(value: Any, alpha: Any) -> Any:
    need(isinstance(alpha, (int, float)))
    return value if alpha == 1 else value * alpha


def add(input: Tensor, other: Any, alpha: float = 1) -> Tensor:
    a, b, dtype = operands(input, other)
    return casts.prepared(a + _scaled(b, alpha), dtype).to(dtype)


def sub(input: Tensor, other: Any, alpha: float = 1) -> Tensor:
    a, b, dtype = operands(input, other)
    return casts.prepared(a - _scaled(b, alpha), dtype).to(dtype)


def rsub(input: Tensor, other: Any, alpha: float = 1) -> Tensor:
    a, b, dtype = operands(input, other)
    return (b - _scaled(a, alpha)).to(dtype)


def mul(input: Tensor, other: Any) -> Tensor:
    a, b, dtype = operands(input, other)
    return (a * b).to(dtype)


_TO_INTEGERS = {"floor": binary.floor_divide, "trunc": binary.trunc_divide}


def divide(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """One division an element, of integers too. By a number CUDA multiplies with its reciprocal."""
    if rounding_mode is not None:
        need(rounding_mode in _TO_INTEGERS)
        # Who calls this has not asked for kernels, as the other functions here need none.
        need(extension.has_cuda() or not any(t.is_cuda for t in tensors_in((input, other))))
        return binary.of_floats(_TO_INTEGERS[rounding_mode])(input, other)
    need(isinstance(input, Tensor) and isinstance(other, (Tensor, int, float)))
    if not binary.result_dtype(input, other).is_floating_point:
        input = input.to(torch.get_default_dtype())
    a, b, dtype = operands(input, other)
    b = b.to(a.device) if isinstance(b, Tensor) else a.new_full((), b)
    return (a / b).to(dtype)


def _in_place(function: Callable[..., Tensor]) -> Adapter:
    def in_place(input: Tensor, other: Any, *args: Any, **kwargs: Any) -> Tensor:
        # Into a narrower dtype the result would be rounded twice.
        need(input.is_floating_point() and binary.result_dtype(input, other) == input.dtype)
        return input.copy_(function(input, other, *args, **kwargs))

    return in_place


def _compared(name: str) -> Adapter:
    compare = getattr(torch, name)

    def compared(input: Tensor, other: Any) -> Tensor:
        a, b, _ = operands(input, other)
        result: Tensor = compare(a, b)
        return result

    return compared


def _alike(*tensors: Tensor) -> torch.dtype:
    """The dtype of a result of these tensors."""
    need(all(t.is_floating_point() for t in tensors))
    # A tensor without dimensions counts as a number beside others.
    alike = len({t.dtype for t in tensors}) == 1
    need(alike or all(t.dim() > 0 for t in tensors))
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = promoted(dtype, tensor.dtype)
    return dtype


def _wide(dtype: torch.dtype, *tensors: Tensor) -> list[Tensor]:
    wide = dtype if dtype is torch.float64 else torch.float32
    return [t.to(wide) for t in tensors]


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    dtype = _alike(input, tensor1, tensor2)
    a, b, c = _wide(dtype, input, tensor1, tensor2)
    return (a + _scaled(b, value) * c).to(dtype)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    dtype = _alike(input, tensor1, tensor2)
    a, b, c = _wide(dtype, input, tensor1, tensor2)
    return (a + _scaled(b, value) / c).to(dtype)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """From the nearer end: `a + w (b - a)` for `|w| < 1/2`, else `b - (b - a) (1 - w)`."""
    tensors = [t for t in (input, end, weight) if isinstance(t, Tensor)]
    dtype = _alike(*tensors)
    a, b, *rest = _wide(dtype, *tensors)
    w = rest[0] if rest else a.new_full((), weight)
    d = b - a
    return torch.where(w.abs() < 0.5, a + w * d, b - d * (1 - w)).to(dtype)


def _into_first(function: Callable[..., Tensor]) -> Adapter:
    def in_place(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = function(input, *args, **kwargs)
        # Into a narrower dtype the result would be rounded twice.
        need(result.dtype == input.dtype)
        return input.copy_(result)

    return in_place


def frac(input: Tensor) -> Tensor:
    need(input.is_floating_point())
    return input - input.trunc()


def round(input: Tensor, decimals: int = 0) -> Tensor:
    """To a number of decimals: a multiplication or a division, an integer, and the way back."""
    need(input.is_floating_point())
    if decimals == 0:
        return torch.round(input)
    x = widened(input)
    factor = x.new_full((), 10.0 ** abs(decimals))
    rounded = (x * factor).round() / factor if decimals > 0 else (x / factor).round() * factor
    return rounded.to(input.dtype)


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Two products and their difference for each component, each rounded by itself."""
    dtype = _alike(input, other)
    need(dim is not None and input.shape[dim] == other.shape[dim] == 3)
    assert dim is not None
    a, b = _wide(dtype, *torch.broadcast_tensors(input, other))
    # broadcast_tensors adds dimensions in front.
    need(dim < 0 or input.dim() == other.dim())
    next_a, next_b = a.roll(-1, dim), b.roll(-1, dim)
    return (next_a * b.roll(-2, dim) - a.roll(-2, dim) * next_b).to(dtype)


ATEN: dict[str, Adapter] = {
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "lerp": lerp,
    "addcmul_": _into_first(addcmul),
    "addcdiv_": _into_first(addcdiv),
    "lerp_": _into_first(lerp),
    "frac": frac,
    "linalg_cross": lambda input, other, *, dim=-1: cross(input, other, dim),
    "cross": cross,
}
REPAIRS: dict[str, Adapter] = {
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": mul,
    "div": divide,
    "add_": _in_place(add),
    "sub_": _in_place(sub),
    "mul_": _in_place(mul),
    "div_": _in_place(divide),
    "round": round,
    **{name: _compared(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
