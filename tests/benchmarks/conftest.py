"""What the tests of the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks import bench_models, model_candidates
from bninv.building import extension
from tests.support.fake_cuda import FakeCuda, OnCpu


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GPU for the benchmarks, whose tensors stay on the CPU: fake_cuda.FakeCuda."""
    # Before there seems to be a GPU for which to compile.
    extension.load()
    fake = FakeCuda()
    fake.install(monkeypatch)
    # A mode is a thread's own.
    with OnCpu() as mode, ThreadPoolExecutor(1, initializer=mode.__enter__) as pool:
        monkeypatch.setattr(bench_models, "SEARCHING", pool)
        yield fake
    model_candidates.networks.cache_clear()
