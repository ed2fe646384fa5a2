"""Settings shared by all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch._subclasses.fake_tensor import FakeTensorMode

# Derandomised: a failure seen in CI is the failure seen at a desk.
settings.register_profile(
    "bninv",
    deadline=None,
    derandomize=True,
    max_examples=25,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("bninv")


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`, processes share what they compile, and have a thread each as they have a core."""
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
    elif getattr(config.option, "numprocesses", None) and "BNINV_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="bninv-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ["BNINV_EMULATION_CACHE"] = folder.name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A class that inherits tests over `case` names its cases in its `CASES`."""
    if "case" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("case", metafunc.cls.CASES, ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(autouse=True)
def _global_state_is_restored() -> Iterator[None]:
    """Bits must not depend on threads or on flush-to-zero; tests change both, so none may leak."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def one_thread(_global_state_is_restored: None) -> None:
    """Small models are quicker so, and stock bits do not depend on how many CPUs there are."""
    torch.set_num_threads(1)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """Where emulated.run runs CUDA kernels: compiled for the host everywhere, on a GPU if any."""
    return str(request.param)


@pytest.fixture(params=["cpu", "cuda"])
def device_type(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where new tensors are: real ones on the CPU, fake ones without elements on a GPU."""
    from bninv.building import extension

    extension.load()
    if request.param == "cpu":
        yield "cpu"
        return
    monkeypatch.setattr(extension, "has_cuda", lambda: True)
    with FakeTensorMode():
        yield "cuda"


@pytest.fixture
def controls() -> Iterator[Any]:
    """The emulated device's own dimensions, which are put back."""
    from tests.support.emulated import operators

    library = operators()
    yield library
    library.device()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new processes: they cost seconds, and would see the GPU that there is."""
    from bninv.checking import repeat

    def call(function: Any, arguments: Any, count: int, progress: Any = None) -> list[Any]:
        return [function(*arguments) for _ in range(count)]

    monkeypatch.setattr(repeat, "in_fresh_processes", call)
