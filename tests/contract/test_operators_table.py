"""docs/operators.md says what the rooms say."""

from __future__ import annotations

import bninv.functional
from bninv.operators import KINDS, OPERATORS
from tools.operators_table import PAGE, page


def test_the_page_is_of_these_operators() -> None:
    assert PAGE.read_text() == page(), "run `python -m tools.operators_table`"


def test_nothing_is_missing() -> None:
    text = page()
    for name in (*OPERATORS, *(kind.rpartition(".")[2] for kind in KINDS)):
        assert f"`{name}`" in text or f"`{name}*`" in text, name
    assert len(OPERATORS) >= len(set(bninv.functional.__all__) & set(OPERATORS)) > 20
