"""Transformers' MLPs: a linear layer and its activation, or its residual, as one operator."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm.layers as tl
import torch
import torch.nn.functional as TF
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import operators
from tests.support.properties import normal

TRUST = ("tests.fusing.test_mlp",)
ROWS = normal("mlp", 3, 7, 12)
pytestmark = pytest.mark.usefixtures("one_thread")


class Mlp(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(12, 40), nn.Linear(40, 12), act

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.act(self.fc1(x)))


class WithFunction(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(TF.gelu(self.fc1(x), approximate="tanh"))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": lambda: Mlp(nn.GELU()),
    "gelu of tanh": lambda: Mlp(nn.GELU("tanh")),
    "timm's gelu": lambda: Mlp(tl.activations.GELU()),
    "timm's gelu of tanh": lambda: Mlp(tl.activations.GELUTanh()),
    "F.gelu": lambda: Mlp(TF.gelu),
    "F.gelu of tanh": lambda: WithFunction(nn.Identity()),
    "silu": lambda: Mlp(nn.SiLU()),
    "sigmoid": lambda: Mlp(nn.Sigmoid()),
    "torch.sigmoid": lambda: Mlp(torch.sigmoid),
    "hardsigmoid": lambda: Mlp(nn.Hardsigmoid()),
    "tanh": lambda: Mlp(nn.Tanh()),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_mlp_is_two_operators(name: str) -> None:
    mlp = ACTIVATIONS[name]().eval()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        net, x = copy.deepcopy(mlp).to(dtype), ROWS.to(dtype)
        fused, unfused = bninv.patch(copy.deepcopy(net), trust=TRUST), bninv.patch(net, fuse=False)
        assert operators(fused, x) == {"linear_fused": 2}
        with torch.inference_mode():
            assert_bitwise_equal(fused(x), unfused(x))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own
@pytest.mark.parametrize("name", ["gelu", "gelu of tanh", "sigmoid"])
def test_a_graph_of_an_mlp_is_two_operators(name: str) -> None:
    unfused = bninv.patch(ACTIVATIONS[name]().eval(), fuse=False)
    with torch.no_grad():
        program = torch.export.export(unfused, (ROWS,))
        fused = bninv.fuse(copy.deepcopy(program))
        assert operators(fused.module(), ROWS) == {"linear_fused": 2}
        assert_bitwise_equal(fused.module()(ROWS), unfused(ROWS))


def test_the_form_of_gelu_is_that_of_the_moment() -> None:
    fused = bninv.patch(Mlp(nn.GELU()).eval(), trust=TRUST)
    with torch.inference_mode():
        fused(ROWS)
        assert isinstance(fused.act, nn.GELU)
        fused.act.approximate = "tanh"
        y = F.gelu(F.linear(ROWS, fused.fc1.weight, fused.fc1.bias), "tanh")
        expected = ROWS + F.linear(y, fused.fc2.weight, fused.fc2.bias)
        assert_bitwise_equal(fused(ROWS), expected)
