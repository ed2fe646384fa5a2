"""Stage "build": the operators, compiled for this GPU alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.gpu.device import Device
from tests.gpu.record import Row


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    def compile_and_load() -> Row:
        start = time.monotonic()
        device.load()
        return {
            "ok": True,
            # A few seconds: they were in the cache already.
            "build_seconds": round(time.monotonic() - start, 1),
            "built_for": device.built_for(),
            "processors": len(os.sched_getaffinity(0)),
        }

    return {"operators": compile_and_load}
