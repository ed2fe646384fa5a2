"""What a report says of the machine and the software it was made with."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch

from bninv._version import CONTRACT_VERSION, __version__


def environment() -> dict[str, str]:
    """Facts on which stock PyTorch's bits, and the speed of everything, depend; and the date."""
    facts = {
        "bninv": f"{__version__} (contract version {CONTRACT_VERSION})",
        "torch": torch.__version__,
        "CPU": _cpu(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    facts["Python"] = platform.python_version()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    now = datetime.datetime.now(datetime.timezone.utc)
    facts["date"] = now.strftime("%Y-%m-%d %H:%M UTC")
    return facts


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
