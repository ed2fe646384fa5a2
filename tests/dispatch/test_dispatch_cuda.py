"""The table on a GPU's tensors: fake ones everywhere, real ones with `-m cuda`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as TF
from torch._subclasses.fake_tensor import FakeTensorMode

import bninv
from bninv.testing import assert_bitwise_equal

Call = Callable[[], torch.Tensor]

EXACT_ON_CUDA: dict[str, Call] = {
    "x / 3": lambda: _fake() / 3,
    "half / 3": lambda: _fake().half() / 3,
    "x /= 3": lambda: _fake().div_(3),
    "x / y": lambda: _fake() / _fake(),
    "x / x[0]": lambda: _fake() / _fake()[0],
    "1 / x": lambda: 1 / _fake(),
    "2 / half": lambda: 2 / _fake().half(),
    "half * 0.1": lambda: _fake().half() * 0.1,
    "hardtanh": lambda: TF.hardtanh(_fake()),
    "clamp": lambda: _fake().clamp(-1, 2),
    "casts": lambda: _fake().half().float().to(torch.bfloat16).to(torch.float16),
    "x.max(dim)": lambda: _fake().max(0).values,
    "leaky": lambda: TF.prelu(_fake(), _fake()[:1]),
    "clamp at zero": lambda: _fake().clamp(min=0),
    "x / a number on the CPU": lambda: _fake() / torch.tensor(3.0),
    "x // 2": lambda: _fake().div(2, rounding_mode="floor"),
}


def _fake() -> torch.Tensor:
    return torch.empty(5, device="cuda:0")


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("bninv.building.extension.has_cuda", lambda: True)
    with FakeTensorMode(), torch.no_grad():
        yield


@pytest.mark.parametrize("name", EXACT_ON_CUDA)
def test_exact_calls_on_a_gpu_run_strictly(fake_gpu: None, name: str) -> None:
    with bninv.invariant(strict=True):
        EXACT_ON_CUDA[name]()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_between_half_precisions_every_value_is_rounded_once(device: str) -> None:
    """By way of float32, which holds both; so autocast casts a half that is not its own."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16).to(device)
    for source, target in ((torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)):
        x = patterns.view(source)
        assert_bitwise_equal(x.to(target), x.float().to(target))
        assert_bitwise_equal(
            x.view(256, 256).t().to(target), x.float().view(256, 256).t().to(target)
        )


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_division_by_a_number_on_a_gpu(dtype: torch.dtype) -> None:
    """Stock CUDA multiplies by the reciprocal; covered, it divides, and has the bits of the CPU."""
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    for number in (3, 7.1, -49):
        with torch.no_grad(), bninv.invariant(strict=True):
            assert_bitwise_equal((x.cuda() / number).cpu(), x / number)
            assert_bitwise_equal(x.cuda().div_(number).cpu(), x / number)
            assert_bitwise_equal((x.cuda() / x.cuda()).cpu(), x / x)
