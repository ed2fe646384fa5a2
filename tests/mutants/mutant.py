"""A planted fault, and the sources that have it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import CSRC


class MutantError(Exception):
    """The table is wrong about a mutant; the message says how."""


@dataclass(frozen=True)
class Mutant:
    """One fault. `file` is below csrc; `text` occurs in it exactly once."""

    name: str
    wrong: str  # what the kernel then does
    caught_by: str  # NAME of tests/ops/test_NAME_cuda.py
    file: str
    text: str
    replacement: str
    select: str = ""  # pytest's -k, where tests before the right one would end the process

    def source(self) -> str:
        """The mutated file.

        Raises:
            MutantError: `text` is not there, or more than once.
        """
        original = (CSRC / self.file).read_text()
        if (count := original.count(self.text)) != 1:
            raise MutantError(f"{self.name}: the text occurs {count} times in {self.file}")
        return original.replace(self.text, self.replacement)

    def write(self, overlay: Path) -> None:
        """Fill a folder for emulated.build_operators: every header, and what must be compiled."""
        source = self.source()
        for path in [*CSRC.glob("*.h"), *CSRC.glob("cuda/*.h"), *CSRC.glob("cuda/*.cuh")]:
            copy = overlay / path.relative_to(CSRC)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        for path in CSRC.glob("cuda/*.cu"):
            if CSRC / self.file in included(path):
                shutil.copyfile(path, overlay / path.relative_to(CSRC))
        (overlay / self.file).write_text(source)


def included(path: Path) -> set[Path]:
    """A source and the project's own headers that it includes, however deep."""
    found: set[Path] = set()
    pending = [path.resolve()]
    while pending:
        path = pending.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        names = re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)
        pending += [(path.parent / name).resolve() for name in names]
    return found
