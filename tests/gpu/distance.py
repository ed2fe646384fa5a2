"""How far two results are apart, found where they lie: a GPU's stay on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bninv.testing import different_bits

_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Distance:
    """Of several comparisons together."""

    elements: int = 0
    moved: int = 0  # elements with other bits
    max_abs: float = 0.0
    max_ulp: int = 0
    max_relative: float = 0.0  # to the largest magnitude of the tensor

    def add(self, actual: Tensor, expected: Tensor) -> bool:
        """Whether any bit differs; a NaN equals a NaN."""
        differ = different_bits(actual, expected)
        moved = int(differ.sum())
        self.elements += differ.numel()
        self.moved += moved
        if moved:
            a, b = actual[differ].double(), expected[differ].double()
            # A number against a NaN is infinitely far.
            apart = float((a - b).abs().nan_to_num(nan=math.inf, posinf=math.inf).max())
            largest = float(expected.double().nan_to_num(0, 0, 0).abs().max())
            steps = int((_ordered(actual[differ]) - _ordered(expected[differ])).abs().max())
            self.max_abs = max(self.max_abs, apart)
            self.max_ulp = max(self.max_ulp, steps)
            self.max_relative = max(self.max_relative, apart / largest if largest else 0.0)
        return moved > 0

    def row(self) -> dict[str, float | int | None]:
        return {
            "elements": self.elements,
            "elements_moved": self.moved,
            "max_abs": _short(self.max_abs),
            "max_ulp": self.max_ulp,
            "max_relative": _short(self.max_relative),
        }


def _short(value: float) -> float | None:
    """JSON has no infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _ordered(x: Tensor) -> Tensor:
    """Integers in the order of the floats: their differences count representable values."""
    bits = x.contiguous().view(_INTEGER[x.element_size()])
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits).to(torch.int64)
