"""Processes of their own for what `make gpu` runs, ended with all that they started."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.places import ROOT


def environment(device: str) -> dict[str, str]:
    """Of the stages: this project's own modules first, and CUDA kernels or an error."""
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"}
    if device == "cuda":
        # For this machine's GPU alone, whatever an image has in its environment.
        found.pop("TORCH_CUDA_ARCH_LIST", None)
        found["BNINV_BUILD"] = "cuda"
    else:
        found["OMP_NUM_THREADS"] = "1"  # what is emulated is small, and one core is enough
    return found


def missing(modules: Sequence[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


def start_process(
    command: Sequence[str], log: Path, device: str, **variables: str
) -> subprocess.Popen[bytes]:
    """Starts it; its output goes to `log`.

    Args:
        variables: join its environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**environment(device), **variables},
            start_new_session=True,  # so that its compilers end with it
        )


def run_process(
    command: Sequence[str], seconds: float, log: Path, device: str, **variables: str
) -> int | None:
    """The exit status, or None if it had to be ended; the rest as `start_process`."""
    process = start_process(command, log, device, **variables)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end(process)


def end(*processes: subprocess.Popen[Any]) -> None:
    """Ends them and all that they started; a moment for what they are just writing."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = [process for process in processes if process.poll() is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        until = time.monotonic() + 3
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, until - time.monotonic()))


def shared_processors(count: int) -> dict[str, str]:
    """For each of so many processes side by side: threads for two thirds of them at once."""
    if count < 2 or "OMP_NUM_THREADS" in os.environ:
        return {}
    processors = len(os.sched_getaffinity(0))
    return {"OMP_NUM_THREADS": str(max(1, 3 * processors // (2 * count)))}


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """A module of this folder; as one, so that the folder itself is not where imports look."""
    return python("-m", f"tests.gpu.{name}", *arguments)
