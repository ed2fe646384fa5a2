"""Values in messages: arrays are named, and whatever is given, a message stays short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv._shown import shown
from tests.support.calls import BIAS, CALLS, ERRORS, TENSOR_ARGUMENTS, W4, X4, call


@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_numpy_arrays_are_named_and_not_printed(name: str, argument: str) -> None:
    array = CALLS[name][1][argument].numpy()
    with pytest.raises(TypeError) as raised:
        call(name, **{argument: array})
    assert str(raised.value) == (
        f"`{argument}` is numpy.ndarray; it may be a torch.Tensor (torch.from_numpy(...))"
    )


MODELS = {
    "container": lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    "code": lambda: OwnCode(),
    **{
        type(module).__name__: (lambda module=module: module)
        for module in (
            *(nn.Conv2d(6, 4, 3), nn.Linear(7, 3), nn.BatchNorm2d(6), nn.LayerNorm(7), nn.GELU()),
            *(
                nn.InstanceNorm2d(6),
                nn.RMSNorm(7),
                nn.GroupNorm(3, 6),
                nn.Softmax(1),
                nn.MaxPool2d(2),
                nn.AdaptiveAvgPool2d(1),
            ),
        )
    },
}


class OwnCode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("name", MODELS)
def test_a_patched_model_names_an_array(name: str) -> None:
    model = bninv.patch(MODELS[name]().eval())
    with pytest.raises(TypeError) as raised:
        model(X4.numpy())
    assert str(raised.value) == (
        "`input` is numpy.ndarray; it may be a torch.Tensor (torch.from_numpy(...))"
    )


@pytest.mark.parametrize(
    "value",
    [X4, X4.numpy(), X4.tolist(), [X4.numpy()] * 3, {"a": X4}, "x" * 300, list(range(60))],
    ids=lambda value: type(value).__name__,
)
def test_messages_stay_short(value: Any) -> None:
    """Whatever is given in the place of a number, a name or a size."""
    calls: list[Callable[[], object]] = [
        lambda: F.conv2d(X4, W4, stride=value),
        lambda: F.conv2d(X4, W4, padding=value),
        lambda: F.conv2d(X4, W4, precision=value),
        lambda: F.max_pool2d(X4, value),
        lambda: F.layer_norm(X4, 7, eps=value),
        lambda: F.batch_norm(X4, *[BIAS] * 2, eps=value),
        lambda: F.sum(X4, 1, dtype=value),
        lambda: F.softmax(X4, 1, dtype=value),
        lambda: F.adaptive_avg_pool2d(X4, value),
        lambda: F.softmax(X4, value),
        lambda: F.mean(X4, value),
        lambda: F.layer_norm(X4, value),
        lambda: F.group_norm(X4, value),
        lambda: F.conv2d(X4, W4, groups=value),
        lambda: F.gelu(X4, approximate=value),
        lambda: bninv.arithmetic(value),
        lambda: bninv.emulate(value).__enter__(),
        lambda: bninv.seed_everything(value),
        lambda: bninv.check(nn.Identity(), X4, value),
        lambda: bninv.check(nn.Identity(), X4, grad_mode=value),
    ]
    for index, function in enumerate(calls):
        with pytest.raises(ERRORS) as raised:
            function()
        assert len(str(raised.value)) < 400, index
        assert "array([" not in str(raised.value) and "tensor([" not in str(raised.value), index


def test_a_shown_value_is_short() -> None:
    for value in ("x" * 9999, list(range(9999)), dict.fromkeys(range(99), X4), [[X4.tolist()]] * 9):
        assert len(shown(value)) < 140
    assert shown(None) == "None"
    assert shown("nhwc") == "'nhwc' (str)"
    assert shown(X4.numpy()) == "numpy.ndarray of shape (2, 6, 5, 7)"
    assert shown([X4]) == "[<torch.Tensor>] (list)"
