"""Choosing few of the many combinations of several properties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any


def every_pair(*axes: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows with a value of each axis: every two values of two axes meet in one of them.

    What goes wrong where two things meet is seen so, by far fewer rows than there are combinations.
    """
    missing = {
        ((i, a), (j, b))
        for i, j in combinations(range(len(axes)), 2)
        for a, b in product(range(len(axes[i])), range(len(axes[j])))
    }
    while missing:
        row = dict(min(missing))
        for i in set(range(len(axes))) - set(row):
            row[i] = max(
                range(len(axes[i])),
                key=lambda a, i=i: sum(
                    ((j, b), (i, a)) in missing or ((i, a), (j, b)) in missing
                    for j, b in row.items()
                ),
            )
        missing -= set(combinations(sorted(row.items()), 2))
        yield tuple(axes[i][row[i]] for i in range(len(axes)))
