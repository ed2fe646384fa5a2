"""bninv.check: its verdict, and what it must leave alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.bits import same_bits
from tests.support.small_models import (
    Functional,
    images,
    lets_nan_through,
    looks_at_the_batch_size,
    marks_the_last_position,
    mixes_samples,
    small_cnn,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- The verdict ---------------------------------------------------------------------------------


def test_a_patched_cnn_passes() -> None:
    result = bninv.check(small_cnn(), images())
    assert result.invariant
    assert result.passed
    assert result.uncovered == []
    assert [row.batch_size for row in result.rows] == [1, 2, 3, 8]
    assert all(row.differing == 0 and row.elements == 4 * 10 for row in result.rows)
    assert result.patched.deviation < 1e-5


@pytest.mark.parametrize(
    "planted", [mixes_samples, looks_at_the_batch_size, marks_the_last_position, lets_nan_through]
)
def test_a_layer_that_depends_on_the_batch_is_found(planted: Callable[[Tensor], Tensor]) -> None:
    result = bninv.check(small_cnn(Functional(planted)), images())
    for side in (result.stock, result.patched):
        assert not side.invariant
        assert side.rows[0].differing == 0
        assert side.rows[-1].differing > 0
    assert not result.passed
    assert "NOT invariant" in str(result)


def test_nan_neighbours_show_as_not_a_number() -> None:
    row = bninv.check(small_cnn(Functional(lets_nan_through)), images()).rows[-1]
    assert row.max_abs == math.inf
    assert row.max_ulp is None


def test_outputs_must_be_finite_and_differ() -> None:
    same = bninv.check(small_cnn(Functional(torch.zeros_like)), images())
    assert same.invariant
    assert not same.patched.distinct
    assert not same.passed
    infinite = bninv.check(small_cnn(Functional(lambda x: x + math.inf)), images())
    assert not infinite.patched.finite
    assert not infinite.passed


def test_every_output_of_a_nested_result_is_compared() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> dict[str, object]:
            pooled = x.i0().mean((2, 3))
            moved = torch.full_like(pooled, float(len(x)))
            return {"logits": self.fc(pooled), "more": (pooled, [moved])}

    rows = bninv.check(Nested(), images()).rows
    assert rows[-1].elements == 4 * (5 + 3 + 3)
    assert rows[-1].differing == 4 * 3
    assert rows[-1].max_abs == 7


def test_an_output_without_a_batch_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"stock model failed at batch size 1.*shape \(\)"):
        bninv.check(Functional(torch.sum), images())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"batch_sizes": (0, 1)}, "batch_sizes"),
        ({"batch_sizes": (1, 2.0)}, "batch_sizes"),
        ({"inputs": images(1)}, "inputs"),
        ({"inputs": [1, 2]}, "inputs"),
        ({"model": torch.relu}, "model"),
        ({"grad_mode": "off"}, "grad_mode"),
        ({"samples": ["one"]}, "samples"),
    ],
)
def test_arguments_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"model": small_cnn(), "inputs": images(), **changes}
    with pytest.raises(ValueError, match=f"^{message}"):
        bninv.check(**arguments)


# ---- What must stay as it was --------------------------------------------------------------------


def test_the_users_model_is_left_alone() -> None:
    model = small_cnn().to(memory_format=torch.channels_last).train()
    model.bn1.eval()
    bits = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in model.state_dict().items()}
    classes = [type(module) for module in model.modules()]
    training = [module.training for module in model.modules()]
    bninv.check(model, images())
    assert [type(module) for module in model.modules()] == classes
    assert [module.training for module in model.modules()] == training
    assert {name: tensor.stride() for name, tensor in model.state_dict().items()} == strides
    assert all(same_bits(model.state_dict()[name], tensor) for name, tensor in bits.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_patched_model_is_checked_as_it_is() -> None:
    expected = bninv.check(small_cnn(), images())
    model = bninv.patch(small_cnn())
    result = bninv.check(model, images())
    assert result.passed
    assert result.stock.digests == expected.stock.digests
    assert result.patched.digests == expected.patched.digests
    assert type(model.conv1) is not nn.Conv2d


@pytest.mark.parametrize("grad_mode", ["no_grad", "inference_mode", "grad"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_set_of_bits_in_every_mode_and_layout(
    grad_mode: str, memory_format: torch.memory_format
) -> None:
    expected = bninv.check(small_cnn(), images(), (1, 2)).patched.digests
    model = small_cnn().to(memory_format=memory_format)
    inputs = images().to(memory_format=memory_format)
    result = bninv.check(model, inputs, (1, 2), grad_mode=grad_mode)
    assert result.passed
    assert result.patched.digests == expected
