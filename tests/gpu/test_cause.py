"""`make gpu`: who moves the bits of stock PyTorch is found, and nobody else is blamed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gpu import batch_norm_switches, cause, device
from tests.gpu.distance import Distance


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
