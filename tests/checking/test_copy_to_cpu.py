"""The copy of a model that bninv.check runs on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bninv
from bninv.checking import cpu
from bninv.checking.bits import same_bits
from tests.support.small_models import small_cnn


def test_the_copy_shares_what_the_model_shares() -> None:
    model = bninv.patch(small_cnn())
    model.conv1.weight.requires_grad_(False)
    model.add_module("again", nn.Linear(32, 10))
    model.again.weight = model.fc.weight
    made = cpu.copy_to_cpu(model)
    assert made.again.weight is made.fc.weight
    assert not made.conv1.weight.requires_grad and made.conv2.weight.requires_grad
    for name, value in model.state_dict(keep_vars=True).items():
        other = made.state_dict(keep_vars=True)[name]
        assert same_bits(other, value) and other.stride() == value.stride()
        assert other.data_ptr() != value.data_ptr() and type(other) is type(value)
    assert [type(m) for m in made.modules()] == [type(m) for m in model.modules()]
    bninv.unpatch(made)
    assert type(made.conv1) is nn.Conv2d and type(model.conv1) is not nn.Conv2d


def test_torchscript_is_copied_as_well() -> None:
    model = nn.Sequential(torch.jit.trace(nn.Linear(3, 2), torch.ones(1, 3)), nn.Linear(2, 2))
    x = torch.ones(1, 3)
    assert same_bits(cpu.copy_to_cpu(model)(x), model(x))


@pytest.mark.parametrize("available", [None, 10_000, 10**9])
def test_memory_is_looked_at_first(monkeypatch: pytest.MonkeyPatch, available: int | None) -> None:
    """40 KB are needed for 20 KB of weights."""
    monkeypatch.setattr(cpu, "available_memory", lambda: available)
    model = nn.Linear(70, 70)
    if available == 10_000:
        with pytest.raises(MemoryError):
            cpu.copy_to_cpu(model)
    else:
        assert same_bits(cpu.copy_to_cpu(model).weight, model.weight)


def test_available_memory() -> None:
    found = cpu.available_memory()
    assert found is None or 2**20 < found < 2**50


@pytest.mark.cuda
def test_the_copy_takes_no_memory_of_the_gpu() -> None:
    model = bninv.patch(nn.Sequential(nn.Linear(1024, 1024)).cuda())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    made = cpu.copy_to_cpu(model)
    assert torch.cuda.max_memory_allocated() == before
    assert {p.device.type for p in made.parameters()} == {"cpu"}
