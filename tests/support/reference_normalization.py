"""R4 and R5 (docs/numerics.md), literally: in binary32, or in binary64 for float64 arrays.

Loops run over terms in the contract's order; NumPy vectorises over rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tests.support import reference, reference_functions
from tests.support.reference_dtypes import rounded, widened
from tests.support.reference_fma64 import fma64

Array = NDArray[Any]


def fma(a: Array, b: Array, c: Array) -> Array:
    """Rounded once, in the arrays' own type."""
    arrays = np.broadcast_arrays(a, b, c)
    if arrays[0].dtype == np.float64:
        return np.vectorize(fma64, otypes=[np.float64])(*arrays)
    return reference.fma(*arrays)


def sum_terms(x: Array, add: Callable[[Array, Array], Array]) -> Array:
    """R3 over the last dimension, `add(lane, term)` being what a term does to its lane."""
    total = np.zeros(x.shape[:-1], x.dtype)
    with np.errstate(all="ignore"):
        for start in range(0, x.shape[-1], reference.SUM_SEGMENT):
            segment = x[..., start : start + reference.SUM_SEGMENT]
            lanes = [np.zeros(x.shape[:-1], x.dtype) for _ in range(reference.LANES)]
            for i in range(segment.shape[-1]):
                lanes[i % reference.LANES] = add(lanes[i % reference.LANES], segment[..., i])
            for half in (16, 8, 4, 2, 1):
                for j in range(half):
                    lanes[j] = lanes[j] + lanes[j + half]
            total = total + lanes[0]
    return total


def plain(lane: Array, x: Array) -> Array:
    return lane + x


def square(lane: Array, d: Array) -> Array:
    return fma(d, d, lane)


def _finish(
    d: Array, variance: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    one, zero = d.dtype.type(1), d.dtype.type(0)
    with np.errstate(all="ignore"):
        inverse = one / np.sqrt(variance + d.dtype.type(eps))
        scaled = d * inverse
    return fma(scaled, one if weight is None else weight, zero if bias is None else bias)


def _normalize_rows(
    x: Array,
    normalized_shape: Sequence[int],
    weight: Array | None,
    bias: Array | None,
    eps: float,
    subtract_mean: bool,
) -> Array:
    count = int(np.prod(normalized_shape))
    d = x.reshape(*x.shape[: x.ndim - len(normalized_shape)], count)
    divisor = x.dtype.type(count)
    with np.errstate(all="ignore"):
        if subtract_mean:
            d = d - (sum_terms(d, plain) / divisor)[..., None]
        variance = sum_terms(d, square) / divisor
    w, b = (None if p is None else p.reshape(count) for p in (weight, bias))
    return _finish(d, variance[..., None], w, b, eps).reshape(x.shape)


def layer_norm(
    x: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    return _normalize_rows(x, normalized_shape, weight, bias, eps, True)


def rms_norm(
    x: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float = 1e-5
) -> Array:
    return _normalize_rows(x, normalized_shape, weight, None, eps, False)


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """A group's sum: R3 over each channel's pixels, then R3 over its channels."""
    batch, channels = x.shape[:2]
    grouped = x.reshape(batch, num_groups, channels // num_groups, -1)
    divisor = x.dtype.type(grouped.shape[2] * grouped.shape[3])

    def mean_over_groups(values: Array, add: Callable[[Array, Array], Array]) -> Array:
        with np.errstate(all="ignore"):
            total = sum_terms(sum_terms(values, add), plain) / divisor
        return total[..., None, None]

    with np.errstate(all="ignore"):
        d = grouped - mean_over_groups(grouped, plain)
    w, b = (
        None if p is None else p.reshape(num_groups, channels // num_groups, 1)
        for p in (weight, bias)
    )
    return _finish(d, mean_over_groups(d, square), w, b, eps).reshape(x.shape)


def instance_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    return group_norm(x, x.shape[1], weight, bias, eps)


def _shifted(x: Array, dim: int) -> tuple[Array, Array, Array]:
    """Rows of x - max(x), their exponentials, and the sums of these."""
    rows = np.moveaxis(x, dim, -1)
    greatest = rows[..., 0]
    for i in range(1, rows.shape[-1]):
        greatest = reference.maximum(greatest, rows[..., i])
    with np.errstate(all="ignore"):
        shifted = rows - greatest[..., None]
        exponentials = reference_functions.exp(shifted)
    return shifted, exponentials, sum_terms(exponentials, plain)


def softmax(x: Array, dim: int) -> Array:
    _, exponentials, total = _shifted(x, dim)
    with np.errstate(all="ignore"):
        return np.moveaxis(exponentials / total[..., None], -1, dim)


def log_softmax(x: Array, dim: int) -> Array:
    shifted, _, total = _shifted(x, dim)
    log_total = reference_functions.log(total).reshape(*total.shape, 1)
    with np.errstate(all="ignore"):
        return np.moveaxis(shifted - log_total, -1, dim)


def on_tensors(function: Callable[..., Array], x: Tensor, *args: Any, **options: Any) -> Tensor:
    """A function of this file on tensors of any storage type."""

    def wide(value: Any) -> Any:
        return widened(value, x.dtype) if isinstance(value, Tensor) else value

    return rounded(
        np.ascontiguousarray(
            function(wide(x), *map(wide, args), **{k: wide(v) for k, v in options.items()})
        ),
        x.dtype,
    )
