"""What is chosen of many combinations has every pair, and not much more."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from tests.support.pairs import every_pair


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_every_two_values_meet(sizes: list[int]) -> None:
    rows = list(every_pair(*(range(size) for size in sizes)))
    for i, j in combinations(range(len(sizes)), 2):
        met = {(row[i], row[j]) for row in rows}
        assert met == set(product(range(sizes[i]), range(sizes[j])))


def test_rows_are_few() -> None:
    sizes = (2, 2, 6, 3, 12, 2)
    assert 72 <= len(list(every_pair(*map(range, sizes)))) < 100
