"""`make gpu`: what its stages find, and that they find a planted fault."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import bninv
from tests.gpu import device, draws, matrix, operators, processes
from tests.support.fake_cuda import FakeCuda


class OnHost(device.Emulated):
    """The CPU's own kernels; `fault` changes a result."""

    def __init__(self, fault: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        self.fault = fault

    def model(self, model: nn.Module) -> device.Run:
        return lambda x: self.fault(model(x))


def one_bit(y: Tensor) -> Tensor:
    """Of the last output of the last sample, in batches."""
    y = y.clone()
    if len(y) > 1:
        y[-1, -1:].view(torch.int32).bitwise_xor_(1)
    return y


def test_the_matrix_finds_a_single_bit(one_thread: None) -> None:
    plan = matrix.Plan(("test_resnet",), (1, 2), 32, 2, 2)
    row = matrix.compare(OnHost(), plan, "test_resnet", torch.float32, None)
    # Alone; both among random images and, with nobody left between them, NaN; six settings.
    assert row["ok"] and row["compared"] == 1 + 2 * 2 + 6 * 2
    row = matrix.compare(OnHost(one_bit), plan, "test_resnet", torch.float32, None)
    assert not row["ok"] and row["differed"] == 2 + 6
    assert "batch 2 of random, position 1: 1 of 1000 outputs" in row["first"]


def test_float16_holds_the_outputs_of_the_model_that_grows_most() -> None:
    plan = matrix.Plan(("efficientnet_b0",), (1,), 224, 2, 0)
    row = matrix.compare(OnHost(), plan, "efficientnet_b0", torch.float16, None)
    assert row["ok"] and row["compared"] == 1


def test_a_model_whose_outputs_say_nothing_proves_nothing(one_thread: None) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 10)

    plan = matrix.Plan(("nothing",), (1,), 8, 1, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "patched", lambda *_: Nothing())
        row = matrix.compare(OnHost(), plan, "nothing", torch.float32, None)
    assert row["differed"] == 0 and not row["ok"]


def test_random_calls_find_a_single_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = operators.emulated.run

    def faulty(where: str, name: str, *args: Any) -> Any:
        result = genuine("cpu", name, *args)
        if where == "emulated" and name == "relu" and result.numel() > 8:
            first = result.as_strided((1,), (1,), 0)
            first.view(torch.int32).bitwise_xor_(1)
        return result

    monkeypatch.setattr(operators.emulated, "run", faulty)
    amount = operators.Amount(3, 200)
    for name, right in (("relu", False), ("linear", True)):
        row = operators.compare(device.Emulated(), amount, name, torch.float32)
        assert row["ok"] == right and (row["differed"] == 0) == right
        assert right or "elements differ in bits" in row["first"]


def test_a_result_is_taken_from_the_device_that_it_is_on() -> None:
    """`meta` for a GPU: PyTorch refuses a tensor of one device with the memory of another."""
    result = torch.empty(3, 2, 5, device="meta")[1:].transpose(0, 2)
    moved = operators.emulated.on("meta", result)
    assert moved.stride() == result.stride() and moved.storage_offset() == 10


def test_every_operator_is_called_in_every_dtype() -> None:
    for name in draws.operators():
        for dtype in draws.DTYPES:
            args = draws.operators()[name](draws.Draw(name, dtype, 300))
            assert args[0].dtype == dtype


@pytest.mark.parametrize("name", matrix.PLANS["cuda", ""].models)
def test_the_models_run_strictly_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, one_thread: None, name: str
) -> None:
    """No call that a GPU may round otherwise: on tensors that only say that they are on one."""
    monkeypatch.setattr("bninv.building.extension.has_cuda", lambda: True)
    model = bninv.patch(timm.create_model(name).eval(), strict=True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in model.modules():
            kinds: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for kind in kinds:
                for key, value in kind.items():
                    if value is not None:
                        options = {"dtype": value.dtype, "device": "cuda"}
                        fake = torch.empty_strided(value.shape, value.stride(), **options)
                        kind[key] = nn.Parameter(fake) if kind is module._parameters else fake
        result = model(torch.empty(2, 3, 64, 64, device="cuda"))
    assert result.is_cuda and bninv.uncovered(model) == []


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    about = device.describe(device.Cuda())
    assert about["slug"] == "nvidia-fake-100" and about["gpu"] == "NVIDIA Fake 100"
    assert about["compute_capability"] == "9.0" and about["torch"] and about["processors"] > 0


def test_settings_are_put_back() -> None:
    def now() -> tuple[bool, ...]:
        b = torch.backends
        cudnn = (b.cudnn.enabled, b.cudnn.benchmark, b.cudnn.deterministic, b.cudnn.allow_tf32)
        return (*cudnn, b.cuda.matmul.allow_tf32, torch.are_deterministic_algorithms_enabled())

    before = now()
    assert before == (True, False, False, True, False, False)  # as cause.Setting says
    changed = {"cudnn": False, "benchmark": True, "deterministic": True, "matmul_tf32": True}
    with contextlib.suppress(KeyError), device.math_settings(**changed):
        assert now() == (False, True, True, False, True, True)
        raise KeyError
    assert now() == before


class Graph(TorchDispatchMode):
    """A CUDA graph of the host: what ran under `capture` runs again, into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            if isinstance(result, Tensor) and not func.is_view and not func._schema.is_mutable:
                result.copy_(func(*args, **kwargs))


def test_a_graph_is_replayed_on_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": Graph,
        "graph": lambda graph: graph,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda stream: contextlib.nullcontext(),
    }.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, value)
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    cuda = device.Cuda()
    with torch.inference_mode():
        assert torch.equal(cuda.in_graph(lambda x: x.sigmoid() * 2, x), x.sigmoid() * 2)
        assert torch.equal(cuda.on_side_stream(torch.sigmoid, x), x.sigmoid())
        # What a capture has read on the host is the same in every replay.
        frozen = cuda.in_graph(lambda x: x * float(x.sum()), x)
        assert not torch.equal(frozen, x * float(x.sum()))


# ---- The tests on a GPU --------------------------------------------------------------------------

TESTS = """
import time
import pytest
def test_passes(): pass
def test_fails(): assert 1 == 2, "the reason"
@pytest.mark.skip(reason="why")
def test_skipped(): pass
def test_slow(): time.sleep(0.3)
def test_last(): pass
"""
# In a process of its own: pytest inside of pytest shares its state.
RUN = """
import json, sys, time
from tests.gpu import suite
for select, seconds in (("test", 60), ("not fails", 60), ("slow or last", 0.2), ("none", 60)):
    try:
        row = suite.run_file(sys.argv[1], ["-k", select], time.monotonic() + seconds)
    except TimeoutError as error:
        row = {"late": str(error)}
    print("row", json.dumps(row))
"""


def test_the_suite_counts(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    file = tmp_path / "x" / "test_planted.py"
    file.write_text(TESTS)
    done = subprocess.run(
        processes.python("-c", RUN, str(file)),
        capture_output=True,
        text=True,
        check=False,
        env=processes.environment("emulated"),
        cwd=tmp_path,
    )
    lines = [line[4:] for line in done.stdout.splitlines() if line.startswith("row ")]
    whole, passing, late, nothing = map(json.loads, lines)
    (text,) = whole.pop("failures")
    assert "the reason" in text and "::test_fails" in text
    assert whole == {"ok": False, "passed": 3, "failed": 1, "skipped": 1, "collected": 5}
    assert passing["ok"] and passing["passed"] == 3 and passing["collected"] == 4
    assert late == {"late": "1 of 2 not reached"}
    assert not nothing["ok"] and nothing["collected"] == 0
