"""A GPU for the benchmarks' tests: tensors stay on the CPU, and a clock stands for the work.

Nothing is timed: a call takes what was planted under its candidate's name. What a real GPU would
not allow raises: a first launch, or waiting, while a graph is captured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from benchmarks.common import cuda_timing

GIB = 2**30


class OnCpu(TorchFunctionMode):
    """Whatever is to be made on, or moved to, the GPU stays on the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = {
            k: "cpu" if k == "device" and _is_cuda(v) else v for k, v in (kwargs or {}).items()
        }
        if func is torch.Tensor.to:
            args = tuple("cpu" if _is_cuda(a) else a for a in args)
        return func(*args, **kwargs)


def _is_cuda(value: Any) -> bool:
    return isinstance(value, str | torch.device) and torch.device(value).type == "cuda"


class FakeCuda:
    """What of torch.cuda the benchmarks use."""

    def __init__(self) -> None:
        self.clock = 0.0  # milliseconds
        self.planted: dict[str, float] = {}
        self.otherwise = 1.0
        # Called with the candidate's name by each of its calls.
        self.watch: Callable[[str], None] = lambda name: None
        self.launched: set[str] = set()
        self.capturing: Graph | None = None
        self.captured: list[str] = []
        self.allocated = GIB
        self.peak = GIB

    def work(self, name: str) -> None:
        self.watch(name)
        self.peak = max(self.peak, self.allocated + 3 * 2**20)
        duration = self.planted.get(name, self.otherwise)
        if self.capturing is None:
            self.launched.add(name)
            self.clock += duration
        elif name not in self.launched:
            raise RuntimeError(f"{name}: its kernels are loaded during a capture")
        else:
            self.captured.append(name)
            self.capturing.duration += duration

    def synchronize(self) -> None:
        if self.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    def reset_peak(self) -> None:
        self.peak = self.allocated

    @contextmanager
    def capture(self, graph: Graph, pool: Any = None) -> Iterator[None]:
        assert self.capturing is None
        self.capturing = graph
        yield
        self.capturing = None

    def working(self, candidates: Mapping[str, Any]) -> dict[str, Any]:
        """The candidates, each of whose calls takes its planted time."""

        def run_of(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
            def both(*args: Any) -> Any:
                self.work(name)
                return run(*args)

            return both

        return {n: c._replace(run=run_of(n, c.run)) for n, c in candidates.items()}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def patch(name: str, value: Any) -> None:
            assert hasattr(torch.cuda, name)
            monkeypatch.setattr(torch.cuda, name, value)

        patch("is_available", lambda: True)
        patch("device_count", lambda: 1)
        patch("get_device_capability", lambda device=None: (9, 0))
        patch("get_device_name", lambda: "NVIDIA Fake 100")
        properties = SimpleNamespace(
            name="NVIDIA Fake 100",
            major=9,
            minor=0,
            multi_processor_count=4,
            total_memory=2**24,
            L2_cache_size=2**16,
        )
        patch("get_device_properties", lambda: properties)
        patch("Event", lambda enable_timing: Event(self))
        patch("CUDAGraph", lambda: Graph(self))
        patch("graph", self.capture)
        patch("graph_pool_handle", lambda: (0, 0))
        patch("synchronize", self.synchronize)
        patch("memory_allocated", lambda: self.allocated)
        patch("max_memory_allocated", lambda: self.peak)
        patch("reset_peak_memory_stats", self.reset_peak)
        clock = SimpleNamespace(perf_counter=lambda: self.clock / 1e3)
        monkeypatch.setattr(cuda_timing, "time", clock)
        for function in ("interleave", "interleave_calls"):
            original = getattr(cuda_timing, function)
            monkeypatch.setattr(
                cuda_timing,
                function,
                lambda c, *args, original=original, **kwargs: original(
                    self.working(c), *args, **kwargs
                ),
            )


class Event:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.time: float | None = None

    def record(self) -> None:
        self.time = self.cuda.clock

    def elapsed_time(self, end: Event) -> float:
        assert self.time is not None and end.time is not None
        return end.time - self.time


class Graph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.duration = 0.0

    def replay(self) -> None:
        assert self.cuda.capturing is None
        self.cuda.clock += self.duration


def run(module: Any, folder: Path, *options: str) -> dict[str, Any]:
    """What a benchmark writes."""
    module.main(["--folder", str(folder), "--seconds", "0.01", "--no-plot", *options])
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())
