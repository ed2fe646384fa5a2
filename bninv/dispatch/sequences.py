"""torch.arange and torch.linspace: each element from its index, in binary64.

Stock's vectors and its scalars step in different ways, so that an element's bits change with the
number of elements.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bninv.dispatch.casts import prepared
from bninv.operators.adapters import Adapter, need

_OPTIONS = ("device", "requires_grad", "pin_memory", "layout")


def _finished(values: Tensor, dtype: torch.dtype | None, options: dict[str, Any]) -> Tensor:
    dtype = torch.get_default_dtype() if dtype is None else dtype
    need(dtype.is_floating_point)
    need(not options.get("pin_memory") and options.get("layout") in (None, torch.strided))
    result = prepared(values, dtype).to(dtype)
    return result.requires_grad_() if options.get("requires_grad") else result


def arange(
    *bounds: Any, dtype: torch.dtype | None = None, step: Any = None, **options: Any
) -> Tensor:
    """`start + i * step` for each i below `(end - start) / step`, and once rounded to the dtype."""
    given = {name: options.pop(name) for name in ("start", "end") if name in options}
    need(set(options) <= {*_OPTIONS})
    numbers = list(bounds)
    if len(numbers) == 1 and "end" not in given and "start" not in given:
        numbers = [0, *numbers]
    numbers += [given[name] for name in ("start", "end") if name in given]
    if len(numbers) == 1:
        numbers = [0, *numbers]
    if step is not None:
        numbers.append(step)
    need(len(numbers) in (2, 3) and all(isinstance(n, (int, float)) for n in numbers))
    start, end, by = (*map(float, numbers), 1.0)[:3]
    need(by != 0 and all(map(math.isfinite, (start, end, by))) and (end - start) / by >= 0)
    count = math.ceil((end - start) / by)
    index = torch.arange(count, dtype=torch.float64, device=options.get("device"))
    return _finished(index * by + start, dtype, options)


def linspace(
    start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **options: Any
) -> Tensor:
    """From the nearer end: `start + i * step`, or `end - (steps - 1 - i) * step`, with the step
    `(end - start) / (steps - 1)`, and once rounded to the dtype.
    """
    need(set(options) <= {*_OPTIONS} and isinstance(steps, int) and steps >= 0)
    need(all(isinstance(n, (int, float)) and math.isfinite(n) for n in (start, end)))
    step = (float(end) - float(start)) / (steps - 1) if steps > 1 else 0.0
    index = torch.arange(steps, dtype=torch.float64, device=options.get("device"))
    first = index * step + float(start)
    last = float(end) - (steps - 1 - index) * step
    values = torch.where(index < steps // 2, first, last) if steps > 1 else first
    return _finished(values, dtype, options)


ATEN: dict[str, Adapter] = {"linspace": linspace}
REPAIRS: dict[str, Adapter] = {"arange": arange}
