"""The axes of the plot of the difference over depth, whoever draws it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bninv.checking.depth import DepthRow
from bninv.checking.result import CheckResult

# Exponents shown where nothing differs: about float32's rounding.
_USUAL = (-8, -5)


@dataclass(frozen=True)
class Series:
    """One side's rows, each at a place along the axis of modules."""

    name: str
    places: list[int]
    rows: list[DepthRow]


@dataclass(frozen=True)
class DepthAxes:
    """Logarithmic upwards, with a band for "no difference" below and one for NaN above.

    Heights are decades: `height(1e-6)` is -6. Zero is at `zero`, half a band below the least.
    """

    series: list[Series]
    names: list[str]
    low: int
    high: int
    has_infinite: bool

    @property
    def zero(self) -> float:
        return self.low - 1.0

    @property
    def infinite(self) -> float:
        return self.high + 1.0

    @property
    def top(self) -> float:
        return self.high + (1.5 if self.has_infinite else 0.5)

    @property
    def bottom(self) -> float:
        return self.low - 1.5

    def height(self, difference: float) -> float:
        if not math.isfinite(difference):
            return self.infinite
        return math.log10(difference) if difference > 0 else self.zero

    def decades(self, most: int = 8) -> list[int]:
        """Exponents to label, not too many."""
        step = max(1, math.ceil((self.high - self.low) / most))
        return list(range(self.low, self.high + 1, step))

    def ticks(self, most: int = 16) -> list[tuple[int, str]]:
        """Places along the modules to name, at a readable distance; large blocks go first."""
        apart = max(1.0, len(self.names) / most)
        inside = Counter(
            ".".join(parts[:count])
            for parts in (name.split(".") for name in self.names)
            for count in range(1, len(parts))
        )
        named = [(place, name) for place, name in enumerate(self.names) if name]
        named.sort(key=lambda tick: (tick[1].count("."), -inside[tick[1]]))
        chosen: list[tuple[int, str]] = []
        for place, name in named:
            if all(abs(place - other) >= apart for other, _ in chosen):
                chosen.append((place, name))
        return sorted(chosen)


def depth_axes(result: CheckResult) -> DepthAxes | None:
    """The axes for a result's `depth` rows; None if it was made without.

    A call that only one of the sides shows (a module that patching replaced) keeps its place in
    the order of the other.
    """
    sides = [("stock", result.stock.depth), ("patched", result.patched.depth)]
    longest = max((rows or [] for _, rows in sides), key=len)
    if not longest:
        return None
    series = [Series(name, *_placed(rows, longest)) for name, rows in sides if rows]
    values = [row.max_rel for _, rows in sides for row in rows or []]
    exponents = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
    low = math.floor(min(exponents)) if exponents else _USUAL[0]
    high = math.ceil(max(exponents)) if exponents else _USUAL[1]
    return DepthAxes(
        series,
        [row.module for row in longest],
        low,
        max(high, low + 3),
        any(not math.isfinite(value) for value in values),
    )


def _placed(
    rows: Sequence[DepthRow], longest: Sequence[DepthRow]
) -> tuple[list[int], list[DepthRow]]:
    """Each row at the place of the same call of the same module."""
    places: dict[str, list[int]] = {}
    for place, row in reversed(list(enumerate(longest))):
        places.setdefault(row.module, []).append(place)
    found = [(places[row.module].pop(), row) for row in rows if places.get(row.module)]
    return [place for place, _ in found], [row for _, row in found]


def title(result: CheckResult) -> str:
    """What the plot compares, in one line."""
    return (
        f"{result.model}, {result.dtype} on {result.device}: "
        f"one sample alone and in a batch of {result.depth_batch_size}"
    )
