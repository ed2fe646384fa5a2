"""The GPU's clock and power while something is timed: a clock that fell explains a time."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Figures = dict[str, float]

PERIOD_MS = 50
COLUMNS = {"sm_mhz": "clocks.sm", "watts": "power.draw"}


@contextmanager
def watched(found: Figures) -> Iterator[None]:
    """Adds to `found` the medians over the block, which begins and ends with a busy GPU.

    Nothing is added where there is no nvidia-smi, or the block was too short for it.
    """
    ask = ["nvidia-smi", f"--query-gpu={','.join(COLUMNS.values())}", f"-lms={PERIOD_MS}"]
    try:
        process = subprocess.Popen(
            [*ask, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        yield
        return
    try:
        yield
    finally:
        process.terminate()
        text, _ = process.communicate()
    found |= medians(text)


def medians(text: str) -> Figures:
    """Of nvidia-smi's lines, but for the first: a clock takes a moment to rise."""
    rows = []
    for line in text.splitlines()[1:]:
        with suppress(ValueError):
            rows.append([float(value) for value in line.split(",")])
    columns = list(zip(*(row for row in rows if len(row) == len(COLUMNS)), strict=True))
    return {name: statistics.median(c) for name, c in zip(COLUMNS, columns, strict=False)}
