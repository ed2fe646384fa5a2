"""The most memory that a call on the CPU holds at once, whoever allocated it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def peak_bytes(run: Callable[[], Any]) -> int | None:
    """The process's resident memory at its highest during a call, less that before it.

    That counts oneDNN's and bninv's own buffers, which PyTorch's profiler does not see; what
    earlier calls left for reuse is given back first. Linux only: None where its /proc is missing.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
        before = _field("VmRSS")
        run()
        return _field("VmHWM") - before
    except (OSError, AttributeError):
        return None


def _field(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
