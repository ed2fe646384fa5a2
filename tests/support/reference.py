"""The arithmetic contract (docs/numerics.md), written down once more: literal, slow, NumPy only.

Nothing here knows the kernels. Loops run over the terms of a sum in the order the contract gives,
and NumPy vectorises over independent outputs only, so no library reduction ever chooses an order.
Inputs and results are arrays of the arithmetic type, float32 or float64; `None` stands for a
missing parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.reference_fma64 import fma64

F32 = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]  # float32 or float64
Pair = int | Sequence[int]
Taps = list[list[int]]  # along one dimension, the input indices of each output's window

SEGMENT = 128  # R1: terms in one fma chain
LANES = 32  # R3: lanes of one sum
SUM_SEGMENT = 4096  # R3: terms in one 32-lane sum


# ---- R0 ------------------------------------------------------------------------------------------


def fma(a: object, b: object, c: object) -> F32:
    """float32 `a * b + c`, rounded once.

    The float64 product of two float32 numbers is exact, but the float64 sum rounds, and rounding
    its result to float32 would round a second time. So the sum is rounded to odd (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums", 2008): where TwoSum finds an error and
    the sum's last bit is 0, the neighbour on the error's side is taken, whose last bit is 1. A
    value with at least two spare bits, rounded to odd, then rounds to float32 as the exact sum
    would; float64 has 29, and more where the result is subnormal.
    """
    with np.errstate(all="ignore"):
        product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32)
        addend = np.asarray(c, np.float32).astype(np.float64)
        product, addend = np.broadcast_arrays(product, addend)
        total = np.asarray(product + addend)
        virtual = total - product
        error = (product - (total - virtual)) + (addend - virtual)
        bits = total.view(np.int64)
        # An infinite or NaN total has a NaN error and is already the result.
        to_odd = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
        # The pattern of a float64 grows with its magnitude, whatever its sign.
        step = np.where((error > 0) == (total > 0), 1, -1)
        return np.asarray(bits + np.where(to_odd, step, 0)).view(np.float64).astype(np.float32)


def maximum(a: Reals, b: Reals) -> Reals:
    """NaN wins; +0 is greater than -0."""
    with np.errstate(invalid="ignore"):
        larger = np.where(a > b, a, b)
        larger = np.where((a == 0) & (b == 0) & ~np.signbit(a), a, larger)
        larger = np.where(np.isnan(a) | np.isnan(b), np.nan, larger)
    return larger.astype(a.dtype)


# ---- R1 ------------------------------------------------------------------------------------------


def fma_of(dtype: np.dtype) -> Callable[[object, object, object], Reals]:
    return fma64 if dtype == np.float64 else fma


def dot_terms(
    terms: Callable[[int], tuple[Reals, Reals]],
    count: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> Reals:
    """R1 over `count` terms; `terms(k)` gives both factors of term k, broadcastable to `shape`."""
    fused = fma_of(dtype)
    total = np.zeros(shape, dtype)
    for start in range(0, count, SEGMENT):
        chain = np.zeros(shape, dtype)
        for k in range(start, min(start + SEGMENT, count)):
            a, b = terms(k)
            chain = fused(a, b, chain)
        with np.errstate(all="ignore"):
            total = total + chain
    return total


def add_bias(total: Reals, bias: Reals | None) -> Reals:
    """One addition, none for a missing bias."""
    with np.errstate(all="ignore"):
        return total if bias is None else (total + bias).astype(total.dtype)


def dot(a: Reals, b: Reals, bias: Reals | None = None) -> Reals:
    """R1 over the last dimension of `a` and `b`; the leading dimensions broadcast."""
    shape = np.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    total = dot_terms(lambda k: (a[..., k], b[..., k]), a.shape[-1], shape, a.dtype)
    return add_bias(total, bias)


def linear(x: Reals, weight: Reals, bias: Reals | None = None) -> Reals:
    """x (..., K), weight (O, K), bias (O): as torch.nn.functional.linear."""
    return dot(x[..., None, :], weight, bias)


def bmm(a: Reals, b: Reals) -> Reals:
    """a (B, M, K), b (B, K, N): as torch.bmm."""
    return dot(a[:, :, None, :], b.swapaxes(1, 2)[:, None])


def baddbmm(addend: Reals, a: Reals, b: Reals, *, beta: float = 1, alpha: float = 1) -> Reals:
    """`addend` broadcasts to (B, M, N), and is not looked at if `beta` is 0."""
    with np.errstate(all="ignore"):
        total = a.dtype.type(alpha) * bmm(a, b)
        return total if beta == 0 else total + a.dtype.type(beta) * addend


def conv2d(
    x: Reals,
    weight: Reals,
    bias: Reals | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Reals:
    """x (N, C, H, W), weight (O, C / groups, R, S): as torch.nn.functional.conv2d.

    Term k = (r * S + s) * (C / groups) + c; a tap on padding keeps its k, with input +0.
    """
    out_channels, group_channels, kernel_h, kernel_w = weight.shape
    (stride_h, stride_w), (dilation_h, dilation_w) = pair(stride), pair(dilation)
    span_h, span_w = dilation_h * (kernel_h - 1), dilation_w * (kernel_w - 1)
    if padding == "valid":
        padding = 0
    if padding == "same":  # the odd one of an odd total goes to the end
        pads_h, pads_w = (span_h // 2, span_h - span_h // 2), (span_w // 2, span_w - span_w // 2)
    else:
        assert not isinstance(padding, str)
        pads_h, pads_w = ((p, p) for p in pair(padding))
    padded = np.pad(x, ((0, 0), (0, 0), pads_h, pads_w))
    batch, _, height, width = padded.shape
    out_h, out_w = (height - span_h - 1) // stride_h + 1, (width - span_w - 1) // stride_w + 1
    assert out_h > 0 and out_w > 0
    split = padded.reshape(batch, groups, group_channels, height, width)
    filters = weight.reshape(groups, out_channels // groups, group_channels, kernel_h, kernel_w)

    def terms(k: int) -> tuple[Reals, Reals]:
        tap, c = divmod(k, group_channels)
        r, s = divmod(tap, kernel_w)
        rows = slice(r * dilation_h, r * dilation_h + (out_h - 1) * stride_h + 1, stride_h)
        columns = slice(s * dilation_w, s * dilation_w + (out_w - 1) * stride_w + 1, stride_w)
        return split[:, :, None, c, rows, columns], filters[:, :, c, r, s][..., None, None]

    shape = (batch, groups, out_channels // groups, out_h, out_w)
    total = dot_terms(terms, kernel_h * kernel_w * group_channels, shape, x.dtype)
    total = total.reshape(batch, out_channels, out_h, out_w)
    return add_bias(total, None if bias is None else bias[:, None, None])


# ---- R2 ------------------------------------------------------------------------------------------


def batch_norm(
    x: Reals,
    running_mean: Reals,
    running_var: Reals,
    weight: Reals | None = None,
    bias: Reals | None = None,
    eps: float = 1e-5,
) -> Reals:
    """Eval mode; channels are dimension 1."""
    weight = np.ones_like(running_var) if weight is None else weight
    bias = np.zeros_like(running_mean) if bias is None else bias
    column = (slice(None),) + (None,) * (x.ndim - 2)
    with np.errstate(all="ignore"):
        scale = weight / np.sqrt(running_var + x.dtype.type(eps))
        return fma_of(x.dtype)(x - running_mean[column], scale[column], bias[column])


# ---- R3 ------------------------------------------------------------------------------------------


def sum32(x: Reals) -> Reals:
    """R3 over the last dimension."""
    count = x.shape[-1]
    with np.errstate(all="ignore"):
        if count > SUM_SEGMENT:
            total = np.zeros(x.shape[:-1], x.dtype)
            for start in range(0, count, SUM_SEGMENT):
                total = total + sum32(x[..., start : start + SUM_SEGMENT])
            return total
        lanes = [np.zeros(x.shape[:-1], x.dtype) for _ in range(LANES)]
        for i in range(count):
            lanes[i % LANES] = lanes[i % LANES] + x[..., i]
        for half in (16, 8, 4, 2, 1):
            for j in range(half):
                lanes[j] = lanes[j] + lanes[j + half]
        return lanes[0]


def divide(total: Reals, divisor: int) -> Reals:
    """One division; the divisor is rounded to the arithmetic type first."""
    with np.errstate(all="ignore"):
        return total / total.dtype.type(divisor)


def _reduced_last(x: Reals, dim: int | Sequence[int]) -> tuple[Reals, tuple[int, ...]]:
    """The reduced dimensions flattened into the last one, in ascending order."""
    dims = sorted(d % x.ndim for d in ([dim] if isinstance(dim, int) else dim))
    kept = [d for d in range(x.ndim) if d not in dims]
    count = math.prod(x.shape[d] for d in dims)
    with_ones = tuple(1 if d in dims else x.shape[d] for d in range(x.ndim))
    return x.transpose(kept + dims).reshape(*(x.shape[d] for d in kept), count), with_ones


def sum(x: Reals, dim: int | Sequence[int], keepdim: bool = False) -> Reals:
    flat, with_ones = _reduced_last(x, dim)
    total = sum32(flat)
    return total.reshape(with_ones) if keepdim else total


def mean(x: Reals, dim: int | Sequence[int], keepdim: bool = False) -> Reals:
    flat, with_ones = _reduced_last(x, dim)
    result = divide(sum32(flat), flat.shape[-1])
    return result.reshape(with_ones) if keepdim else result


# ---- Pooling -------------------------------------------------------------------------------------


def pair(value: Pair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, (rest[0] if rest else first)


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """As torch.nn.MaxPool2d documents; with ceil_mode a window that would start in the padding
    beyond the input's end is left out."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    out = -(-room // stride) + 1 if ceil_mode else room // stride + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def _windows(
    x: Reals, rows: Taps, columns: Taps, reduce: Callable[[Reals, int, int], Reals]
) -> Reals:
    """`reduce(terms, i, j)` for each output pixel; the terms, row-major, are the last dimension."""
    out = np.empty((*x.shape[:-2], len(rows), len(columns)), x.dtype)
    for i, window_rows in enumerate(rows):
        for j, window_columns in enumerate(columns):
            window = x[..., window_rows, :][..., window_columns]
            terms = window.reshape(*x.shape[:-2], len(window_rows) * len(window_columns))
            out[..., i, j] = reduce(terms, i, j)
    return out


def _taps(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> Taps:
    out = pool_output_size(size, kernel, stride, padding, dilation, ceil_mode)
    starts = [i * stride - padding for i in range(out)]
    return [[t for t in range(s, s + dilation * kernel, dilation) if 0 <= t < size] for s in starts]


def _adaptive_taps(size: int, out: int) -> Taps:
    return [list(range(i * size // out, -(-(i + 1) * size // out))) for i in range(out)]


def _adaptive(
    x: Reals, output_size: Sequence[int], reduce: Callable[[Reals, int, int], Reals]
) -> Reals:
    rows, columns = (_adaptive_taps(x.shape[d], output_size[d]) for d in (-2, -1))
    return _windows(x, rows, columns, reduce)


def _largest(terms: Reals, _i: int = 0, _j: int = 0) -> Reals:
    result = np.full(terms.shape[:-1], -np.inf, terms.dtype)
    for k in range(terms.shape[-1]):
        result = maximum(result, terms[..., k])
    return result


def _average(terms: Reals, _i: int = 0, _j: int = 0) -> Reals:
    return divide(sum32(terms), terms.shape[-1])


def avg_pool2d(
    x: Reals,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Reals:
    """R3 over the elements that exist, divided by the divisor torch.nn.AvgPool2d documents.

    With count_include_pad that is the window's part inside the padded input: ceil_mode may let a
    window reach beyond the padding, and what lies there does not count.
    """
    kernel, step, pad = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    size = x.shape[-2:]
    rows, columns = (_taps(size[d], kernel[d], step[d], pad[d], 1, ceil_mode) for d in (0, 1))

    def padded_length(d: int, i: int) -> int:
        start = i * step[d] - pad[d]
        return min(start + kernel[d], size[d] + pad[d]) - start

    def reduce(terms: Reals, i: int, j: int) -> Reals:
        if divisor_override is not None:
            divisor = divisor_override
        elif count_include_pad:
            divisor = padded_length(0, i) * padded_length(1, j)
        else:
            divisor = terms.shape[-1]
        return divide(sum32(terms), divisor)

    return _windows(x, rows, columns, reduce)


def adaptive_avg_pool2d(x: Reals, output_size: Sequence[int]) -> Reals:
    return _adaptive(x, output_size, _average)


def max_pool2d(
    x: Reals,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Reals:
    """Padding is -inf; NaN wins."""
    kernel, step, pad = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    spread, size = pair(dilation), x.shape[-2:]
    rows, columns = (
        _taps(size[d], kernel[d], step[d], pad[d], spread[d], ceil_mode) for d in (0, 1)
    )
    return _windows(x, rows, columns, _largest)


def adaptive_max_pool2d(x: Reals, output_size: Sequence[int]) -> Reals:
    return _adaptive(x, output_size, _largest)
