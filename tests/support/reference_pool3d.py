"""3-d pooling (docs/numerics.md, R3 and R0): literal, slow, NumPy only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tests.support.reference import (
    Reals,
    Taps,
    _adaptive_taps,
    _average,
    _largest,
    _taps,
    divide,
    sum32,
)
from tests.support.reference_convolution import Sizes, each


def _windows(x: Reals, taps: Sequence[Taps], reduce: Callable[..., Reals]) -> Reals:
    """`reduce(terms, *place)` for each output; the terms, row-major, are the last dimension."""
    out = np.empty((*x.shape[:2], *(len(t) for t in taps)), x.dtype)
    for place in itertools.product(*(range(len(t)) for t in taps)):
        d, h, w = (t[i] for t, i in zip(taps, place, strict=True))
        window = x[:, :, d][:, :, :, h][:, :, :, :, w]
        terms = window.reshape(*x.shape[:2], len(d) * len(h) * len(w))
        out[(slice(None), slice(None)) + place] = reduce(terms, *place)  # noqa: RUF005
    return out


def avg_pool3d(
    x: Reals,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Reals:
    kernel, steps = each(kernel_size, 3), each(stride or kernel_size, 3)
    pads, size = each(padding, 3), x.shape[2:]
    taps = [_taps(size[d], kernel[d], steps[d], pads[d], 1, ceil_mode) for d in range(3)]

    def reduce(terms: Reals, *place: int) -> Reals:
        divisor = terms.shape[-1]
        if divisor_override is not None:
            divisor = divisor_override
        elif count_include_pad:  # what lies beyond the padding does not count
            starts = [i * steps[d] - pads[d] for d, i in enumerate(place)]
            ends = [min(starts[d] + kernel[d], size[d] + pads[d]) for d in range(3)]
            divisor = int(np.prod([e - s for e, s in zip(ends, starts, strict=True)]))
        return divide(sum32(terms), divisor)

    return _windows(x, taps, reduce)


def max_pool3d(
    x: Reals,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Reals:
    kernel, steps = each(kernel_size, 3), each(stride or kernel_size, 3)
    pads, spread, size = each(padding, 3), each(dilation, 3), x.shape[2:]
    taps = [_taps(size[d], kernel[d], steps[d], pads[d], spread[d], ceil_mode) for d in range(3)]
    return _windows(x, taps, lambda terms, *_: _largest(terms))


def adaptive_avg_pool3d(x: Reals, output_size: Sizes) -> Reals:
    taps = [_adaptive_taps(x.shape[2 + d], n) for d, n in enumerate(each(output_size, 3))]
    return _windows(x, taps, lambda terms, *_: _average(terms))


def adaptive_max_pool3d(x: Reals, output_size: Sizes) -> Reals:
    taps = [_adaptive_taps(x.shape[2 + d], n) for d, n in enumerate(each(output_size, 3))]
    return _windows(x, taps, lambda terms, *_: _largest(terms))
