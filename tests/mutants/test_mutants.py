"""The table of planted faults fits the kernels as they are; `make mutants` plants them."""

from __future__ import annotations

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.run import MUTANTS
from tests.support.places import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_stands_once_in_its_file(mutant: Mutant) -> None:
    mutant.source()  # raises unless it does
    assert (ROOT / "tests" / "ops" / f"test_{mutant.caught_by}_cuda.py").is_file()


def test_names_differ() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
