"""Blocks of random straight-line code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

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
