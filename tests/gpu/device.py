"""Where the kernels run: a GPU, or the emulation of one on the host.

Both are asked the same; what runs on them is the same code. Inputs and results are on `place`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]


class Cuda:
    """The current GPU."""

    name = "cuda"  # also emulated.run's, of the tests
    place = torch.device("cuda")

    def describe(self) -> dict[str, Any]:
        from benchmarks.common import cuda_timing

        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True)
            driver = done.stdout.split()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            driver = "unknown"
        return {"slug": cuda_timing.slug(), **cuda_timing.describe(), "driver": driver}

    def load(self) -> None:
        """Compile the operators, if nobody has, and load them."""
        from bninv.building import extension

        extension.load()
        if not extension.has_cuda():
            raise RuntimeError("the operators were compiled without CUDA kernels")

    def built_for(self) -> str:
        from bninv.building import extension

        return extension.cuda_build()

    def model(self, model: nn.Module) -> Run:
        """A copy of a model of the host, as a function of tensors on `place`."""
        return copy.deepcopy(model).to(self.place)

    def free_bytes(self) -> int:
        return torch.cuda.mem_get_info()[0]

    def synchronize(self) -> None:
        """Waits for all work; raises what it raised."""
        torch.cuda.synchronize()

    def release(self) -> None:
        """Memory that nobody holds goes back to the device."""
        torch.cuda.empty_cache()

    def on_side_stream(self, run: Run, x: Tensor) -> Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = run(x)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def in_graph(self, run: Run, x: Tensor) -> Tensor:
        """Captured on other values, replayed on those of `x`."""
        static = torch.ones_like(x)
        # Kernels are loaded when they are first launched, which a capture does not allow.
        self.on_side_stream(run, static)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(static)
        static.copy_(x)
        graph.replay()
        return result.clone()


class Host:
    """The CPU, for what is asked of stock PyTorch alone."""

    name = "cpu"
    place = torch.device("cpu")

    def describe(self) -> dict[str, Any]:
        return {"slug": "cpu", "gpu": "none"}

    def free_bytes(self) -> int:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def synchronize(self) -> None:
        pass

    def release(self) -> None:
        pass


class Emulated(Host):
    """The CUDA kernels compiled for the host, which take the host's tensors."""

    name = "emulated"

    def describe(self) -> dict[str, Any]:
        return {"slug": "emulated", "gpu": "none: emulated on the host"}

    def load(self) -> None:
        from bninv.building import extension
        from tests.support import emulated

        extension.load()
        emulated.operators()

    def built_for(self) -> str:
        return "the host"

    def model(self, model: nn.Module) -> Run:
        from tests.support import emulated

        def run(x: Tensor) -> Tensor:
            with emulated.Redirected() as mode:
                result: Tensor = model(x)
            if not mode.seen:
                raise RuntimeError("no emulated kernel ran")
            return result

        return run

    def on_side_stream(self, run: Run, x: Tensor) -> Tensor:
        return run(x)

    def in_graph(self, run: Run, x: Tensor) -> Tensor:
        return run(x)


Device = Any  # Cuda or Emulated; Host where stock PyTorch alone is asked


def describe(device: Device) -> dict[str, Any]:
    """What a reader needs to place the figures, and what they depend on beside the sources."""
    versions = {}
    for name in ("torch", "torchvision", "timm", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        **device.describe(),
        **versions,
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)),
    }


def named(name: str) -> Device:
    return {"cuda": Cuda, "emulated": Emulated, "cpu": Host}[name]()


@contextlib.contextmanager
def math_settings(
    *,
    tf32: bool = False,
    matmul_tf32: bool | None = None,
    cudnn: bool = True,
    benchmark: bool = False,
    deterministic: bool = False,
) -> Iterator[None]:
    """PyTorch's switches of the whole process, put back at the end.

    Args:
        tf32: for cuDNN, and for other products unless `matmul_tf32` says otherwise.

    Through the older names alone: PyTorch refuses a mixture with `fp32_precision`.
    """
    convolution, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    names = ("enabled", "benchmark", "deterministic", "allow_tf32")
    before = [getattr(convolution, name) for name in names], matmul.allow_tf32
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        for name, value in zip(names, (cudnn, benchmark, deterministic, tf32), strict=True):
            setattr(convolution, name, value)
        matmul.allow_tf32 = tf32 if matmul_tf32 is None else matmul_tf32
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        yield
    finally:
        for name, value in zip(names, before[0], strict=True):
            setattr(convolution, name, value)
        matmul.allow_tf32 = before[1]
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
