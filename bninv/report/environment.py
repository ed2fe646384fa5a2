"""What a report says of the machine and the software it was made with."""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from bninv._version import CONTRACT_VERSION, __version__


def environment() -> dict[str, str]:
    """Facts on which stock PyTorch's bits, and the speed of everything, depend; and the date."""
    facts = {
        **versions(),
        "CPU": _cpu(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    now = datetime.datetime.now(datetime.timezone.utc)
    facts["date"] = now.strftime("%Y-%m-%d %H:%M UTC")
    return facts


def versions() -> dict[str, str]:
    """Of bninv, of torch, of the libraries of models that this process has loaded, of Python."""
    found = {"bninv": f"{__version__} (contract version {CONTRACT_VERSION})"}
    for name in ("torch", "timm", "torchvision"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    found["Python"] = platform.python_version()
    return found


def device_name(device: str) -> str:
    """What a device is called: the GPU's name, or the CPU's."""
    if device.startswith("cuda") and torch.cuda.is_available():
        chosen = () if device in ("cuda", "cuda:0") else (device,)
        return torch.cuda.get_device_name(*chosen)
    return _cpu()


def origin(result: Any) -> dict[str, str]:
    """What a result itself knows of how it came about: the command line, and the weights."""
    return {name: text for name in ("command", "weights") if (text := getattr(result, name))}


def footer(result: Any) -> list[str]:
    """Lines that say how a result came about: its weights, versions, device and command line."""
    known = origin(result)
    software = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines = [f"{software}; {result.device}: {device_name(result.device)}."]
    if "weights" in known:
        lines.insert(0, f"Weights: {known['weights']}.")
    if "command" in known:
        lines.append(f"$ {known['command']}")
    return lines


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
