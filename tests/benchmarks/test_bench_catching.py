"""The calls that are made again are those of a forward, with its results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bninv
from benchmarks import bench_catching
from benchmarks.common.caught import caught_calls


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x).view(2, 2, 2) + 1).softmax(-1)


def test_caught_calls() -> None:
    model, x = bninv.patch(Calls().eval()), torch.ones(2, 4)
    with torch.inference_mode():
        calls = caught_calls(lambda: model(x))
        assert [call[0].__name__ for call in calls] == ["view", "add", "softmax"]
        again = caught_calls(bench_catching.caught(calls))
        assert [call[0] for call in again] == [call[0] for call in calls]
        assert not caught_calls(bench_catching.straight(calls))


def test_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    bench_catching.main("test_vit", seconds=0.0, write_results=False)
    assert "test_vit" in capsys.readouterr().out
