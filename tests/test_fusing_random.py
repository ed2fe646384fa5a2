"""Any straight-line block gives equal bits fused and unfused, and changes the same tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal

CHANNELS, SIZE = 4, 5
LAYERS: dict[str, Any] = {
    "conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "point": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
    "depthwise": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
    "linear": lambda: nn.Linear(SIZE, SIZE),
    "norm": lambda: nn.BatchNorm2d(CHANNELS),
    "relu": lambda: nn.ReLU(),
    "relu_in_place": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.3, inplace=True),
    "hardswish": lambda: nn.Hardswish(),
    "drop": lambda: nn.Dropout(),
    "pool": lambda: nn.MaxPool2d(3, 1, 1),
    "pair": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU(inplace=True)),
    "normed": lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.Identity()),
}
# {0} is a new variable, {1} and {2} are older ones.
STATEMENTS = (
    *(f"{{0}} = self.{layer}({{1}})" for layer in LAYERS),
    *(f"{{1}} = self.{layer}({{1}})" for layer in LAYERS),
    "{0} = {1} + {2}",
    "{1} = {1} + {2}",
    "{1} += {2}",
    "{0} = {1}.add_({2})",
    "{0} = torch.add({1}, {2})",
    "{0} = F.relu({1})",
    "{0} = F.relu({1}, inplace=True)",
    "{0} = {1}.relu_()",
    "{0} = {1}.clone()",
    "{0} = {1}.flip(3)",
    "{0} = {1}[:, :, :, :]",
    "{0} = {1} * 0.5",
    "{1}.mul_(0.5)",
    "{0} = {1}",
)
ATTEMPTS = 200


@st.composite
def forwards(draw: st.DrawFn) -> str:
    """A forward's source; variables keep one shape, so that any may follow any."""
    variables, lines = ["x"], []
    for _ in range(draw(st.integers(2, 10))):
        new = f"v{len(variables)}"
        # Mostly the newest: longer chains.
        pick = st.one_of(st.just(variables[-1]), st.sampled_from(variables))
        statement = draw(st.sampled_from(STATEMENTS))
        lines.append(statement.format(new, draw(pick), draw(st.sampled_from(variables))))
        if "{0}" in statement:
            variables.append(new)
    results = draw(st.lists(st.sampled_from(variables[1:] or ["x"]), min_size=1, max_size=3))
    body = "".join(f"    {line}\n" for line in lines)
    return f"def forward(self, x):\n{body}    return {variables[-1]}, {', '.join(results)}\n"


def block_of(source: str) -> nn.Module:
    names: dict[str, Any] = {"torch": torch, "F": F, "__name__": __name__}
    exec(source, names)
    torch.manual_seed(0)
    block = type("Block", (nn.Module,), {"forward": names["forward"]})()
    for name, make in LAYERS.items():
        block.add_module(name, make())
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return block.eval()


def run(block: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """All results, and what has become of the input."""
    with torch.inference_mode():
        x = x.clone()
        results = block(x)
        return (*results, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=ATTEMPTS)
@given(source=forwards())
def test_fused_is_unfused(source: str, dtype: torch.dtype) -> None:
    block = block_of(source).to(dtype)
    fused = bninv.patch(copy.deepcopy(block), trust=(__name__,))
    unfused = bninv.patch(block, fuse=False)
    note(source)
    note(str(bninv.fusion(fused)))
    x = torch.randn(2, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)
    pairs = zip(run(fused, x), run(unfused, x), strict=True)
    for i, (one, other) in enumerate(pairs):
        assert_bitwise_equal(one, other, f"result {i}")


def test_random_blocks_do_fuse() -> None:
    """The strategy above makes chains in a good part of its blocks."""
    counts = []

    @settings(max_examples=ATTEMPTS)
    @given(source=forwards())
    def look(source: str) -> None:
        found = bninv.fusion(bninv.patch(block_of(source), trust=(__name__,)))
        assert not found.unfused, found.unfused[0]
        counts.append(found.chains)

    look()
    assert sum(chains > 0 for chains in counts) > len(counts) / 3
    assert max(counts) > 2
