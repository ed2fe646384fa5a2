"""How far a patched model is from the stock one: by rounding, or is something wrong?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bninv.checking.detections import Changes, compare, detections, fields_of


def deviation(stock: list[list[Tensor]], patched: list[list[Tensor]], names: list[str]) -> float:
    """The largest |patched - stock|, relative to the largest |stock| of the same output.

    Of a detector, the median over the boxes that both have found, and over their scores: rounding
    lets some pass a threshold that others do not, and then a neighbour stands in their place.

    Args:
        stock: each sample's outputs.
        patched: the same.
        names: of the outputs.
    """
    worst = 0.0
    for before, after in zip(stock, patched, strict=True):
        for a, b, typical in _comparable(before, after, names):
            if a.numel():
                a, b = a.to(torch.float64), b.to(torch.float64)
                scale = max(float(a.abs().max()), torch.finfo(torch.float32).tiny)
                distances = (a - b).abs().flatten()
                distance = float(distances.median() if typical else distances.max()) / scale
                worst = max(worst, math.inf if math.isnan(distance) else distance)
    return worst


def against_stock(
    stock: list[list[Tensor]], patched: list[list[Tensor]], names: list[str]
) -> Changes | None:
    """What changed from the stock model's detections to the patched one's; None without any."""
    keys = fields_of(names)
    if keys is None:
        return None
    total = Changes()
    for before, after in zip(stock, patched, strict=True):
        total += compare(detections(before, keys), detections(after, keys)).changes
    return total


def _comparable(
    stock: list[Tensor], patched: list[Tensor], names: list[str]
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Pairs of outputs, and whether single elements of them say little."""
    keys = fields_of(names)
    if keys is None:
        yield from ((a, b, False) for a, b in zip(stock, patched, strict=True))
        return
    pairs = compare(detections(stock, keys), detections(patched, keys)).pairs
    before, after = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    for key in ("boxes", "scores"):
        if key in keys:
            yield stock[keys[key]][before], patched[keys[key]][after], True
