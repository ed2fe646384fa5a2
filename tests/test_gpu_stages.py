"""`make gpu`: what its stages find, and that they find a planted fault."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bninv
from benchmarks.gpu import batch_norm_switches, cause, device, draws, matrix, operators, runner
from benchmarks.gpu.distance import Distance


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


def test_every_operator_is_called_in_every_dtype() -> None:
    for name in draws.operators():
        for dtype in draws.dtypes(name):
            args = draws.operators()[name](draws.Draw(name, dtype, 300))
            assert args[0].dtype == dtype


@pytest.mark.parametrize("name", matrix.PLANS["cuda", ""].models)
def test_the_models_run_strictly_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, one_thread: None, name: str
) -> None:
    """No call that a GPU may round otherwise: on tensors that only say that they are on one."""
    monkeypatch.setattr("bninv._extension.has_cuda", lambda: True)
    model = bninv.patch(timm.create_model(name).eval(), strict=True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in model.modules():
            for kind in (module._parameters, module._buffers):
                for key, value in kind.items():
                    if value is not None:
                        options = {"dtype": value.dtype, "device": "cuda"}
                        fake = torch.empty_strided(value.shape, value.stride(), **options)
                        kind[key] = nn.Parameter(fake) if kind is module._parameters else fake
        result = model(torch.empty(2, 3, 64, 64, device="cuda"))
    assert result.is_cuda and bninv.uncovered(model) == []


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


# ---- What moves the bits of stock PyTorch --------------------------------------------------------


def test_distances() -> None:
    distance = Distance()
    x = torch.tensor([1.0, -0.0, float("nan"), 4.0])
    assert not distance.add(x, x.clone())
    # One step of the last place; the two zeros are a step apart.
    assert distance.add(torch.tensor([1 + 2**-23, 0.0, float("nan"), 4.0]), x)
    expected = {"elements": 8, "elements_moved": 2, "max_abs": 1.192e-07, "max_ulp": 1}
    assert distance.row() == {**expected, "max_relative": 2.98e-08}
    distance.add(torch.tensor([float("nan")]), torch.tensor([1.0]))
    assert distance.row()["max_abs"] is None


class Moving(nn.Module):
    """`x * 1.0001` in batches of more than two, and exact operators around it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x.relu()) + x


def test_an_operator_that_moves_is_found_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = torch.ops.aten.sigmoid.default

    class Faulty(cause.Examiner):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            return super().__torch_dispatch__(
                _Sigmoid() if func is genuine else func, types, args, kwargs
            )

    class _Sigmoid:
        overloadpacket, is_view = genuine.overloadpacket, False

        def __call__(self, x: Tensor) -> Tensor:
            return genuine(x) * (1.0001 if len(x) > 2 else 1)

    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), Faulty((2, 3, 5)) as examiner:
        Moving()(x)
    found = examiner.kinds
    assert {name: kind.moved for name, kind in found.items()} == {"relu": 0, "sigmoid": 1, "add": 0}
    assert found["sigmoid"].by == {"batch 3": 1, "batch 5": 1, "position": 1}
    assert 0 < found["sigmoid"].distance.max_relative < 2e-4


def test_every_part_has_the_memory_format_of_the_whole() -> None:
    """Another one would have other kernels."""
    seen = []

    class Watching(cause.Examiner):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            def watched(*args: Any, **kwargs: Any) -> Any:
                seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
                return func(*args, **kwargs)

            watched.overloadpacket, watched.is_view = func.overloadpacket, func.is_view
            return super().__torch_dispatch__(watched, types, args, kwargs)

    x = torch.randn(5, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), Watching((2, 3, 5)):
        torch.sigmoid(x)
    # Three samples alone, three batches, another position; and the call itself.
    assert len(seen) == 3 + 3 + 1 + 1 and all(seen)


def test_operators_that_work_in_place_keep_their_inputs(one_thread: None) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clone().relu_().add_(x)

    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), cause.Examiner((2, 3)) as examiner:
        result = InPlace()(x)
    assert torch.equal(result, x.relu() + x)
    assert all(kind.moved == 0 for kind in examiner.kinds.values())


def test_a_batch_norm_that_moves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    case = batch_norm_switches.Case("small", (5, 3, 2, 2))
    arguments = (device.Host(), case, "float32", True, True)
    row = batch_norm_switches.examine(*arguments)
    assert row["moved"] == [] and row["elements"] == (4 + 2 + 3) * 12
    genuine = torch.nn.functional.batch_norm

    def switching(x: Tensor, *args: Any) -> Tensor:
        return genuine(x, *args) * (1.0001 if len(x) > 2 else 1)

    monkeypatch.setattr(batch_norm_switches.F, "batch_norm", switching)
    row = batch_norm_switches.examine(*arguments)
    assert row["moved"] == ["sample 0", "sample 1", "sample 2", "sample 4", "batch 2"]


def test_samples_that_lie_far_apart_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    case = batch_norm_switches.Case("apart", (2, 3, 2, 2), apart=1000)
    x = batch_norm_switches.tensor(case, torch.float32, False, torch.device("cpu"))
    assert x.stride() == (1000, 4, 2, 1) and case.elements == 1012
    arguments = (device.Host(), case, "float32", False, True)
    assert batch_norm_switches.examine(*arguments)["moved"] == []
    genuine = torch.nn.functional.batch_norm

    def switching(x: Tensor, *args: Any) -> Tensor:
        return genuine(x, *args) * (1.0001 if x.stride(0) > 500 else 1)

    monkeypatch.setattr(batch_norm_switches.F, "batch_norm", switching)
    assert batch_norm_switches.examine(*arguments)["moved"] == ["near each other"]


def test_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    host = device.Host()
    monkeypatch.setattr(host, "free_bytes", lambda: 10 * 2**30)
    row = batch_norm_switches.examine(host, batch_norm_switches.CASES[-1], "float32", False, True)
    assert row == {"left_out": "needs 26 GiB of memory"}


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
from benchmarks.gpu import suite
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
        runner.python("-c", RUN, str(file)),
        capture_output=True,
        text=True,
        check=False,
        env=runner.environment("emulated"),
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
