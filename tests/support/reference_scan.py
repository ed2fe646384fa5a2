"""R3's scans in NumPy: one step after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support import reference, reference_functions

Array = NDArray[Any]


def _scan(first: Callable[[Array], Array], step: Callable[[Array, Array], Array]) -> Any:
    def scan(x: Array, dim: int) -> Array:
        rows = np.moveaxis(x.reshape(x.shape or (1,)), dim, -1)
        result = np.empty_like(rows)
        with np.errstate(all="ignore"):
            for i in range(rows.shape[-1]):
                term = rows[..., i]
                result[..., i] = first(term) if i == 0 else step(result[..., i - 1], term)
        return np.moveaxis(result, -1, dim).reshape(x.shape)

    return scan


def log_add_exp(y: Array, x: Array) -> Array:
    difference = np.where(y == x, y.dtype.type(0), y - x)
    return reference.maximum(y, x) + reference_functions.log1p_exp(difference)


cumsum = _scan(lambda x: x.dtype.type(0) + x, lambda y, x: y + x)
cumprod = _scan(lambda x: x, lambda y, x: y * x)
logcumsumexp = _scan(lambda x: x, log_add_exp)
