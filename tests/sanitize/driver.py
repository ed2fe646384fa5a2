"""The driver's translation units, for whatever machine and with whatever flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent


def units(
    description: ModuleType,
    folder: Path,
    machine: str | None = None,
    extra_levels: Sequence[Any] = (),
) -> list[Path]:
    """The driver's files and, written into `folder`, what is compiled once for each level.

    Args:
        description: bninv/building/recipe.py.
        machine: what to compile for, as in its `levels`.
        extra_levels: beside that machine's own.
    """
    csrc = description.source_dir()
    paths = description.write_wrappers(
        folder, csrc, operators=False, extra_levels=extra_levels, machine=machine
    )
    prelude = description._prelude(csrc)
    for level in (*description.levels(machine), *extra_levels):
        path = folder / f"vec_operations_{level.name}.cpp"
        source = str(HERE / "vec_operations.cpp")
        path.write_text(description._kernel_wrapper(source, level, prelude))
        paths.append(path)
    own = [HERE / "main.cpp", *sorted(HERE.glob("*_cases.cpp"))]
    return [*own, *paths]
