"""A digest of what every module of a model gave, in the order in which the calls returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bninv.checking.bits import digest
from bninv.checking.depth import after_every_module
from bninv.checking.inputs import call_model


@dataclass
class LayerDigest:
    """What one call of a module gave.

    `name` is qualified, "" the model itself; `call` counts the calls of one module. `digest` is
    SHA-256 over the bits, shapes and dtypes of its `tensors` output tensors.
    """

    name: str
    kind: str
    call: int
    tensors: int
    digest: str


def run_layers(
    model: nn.Module, inputs: Any, *, values: bool = False
) -> tuple[list[LayerDigest], list[list[Tensor]] | None]:
    """Run a model without gradients; what every call gave, and the tensors if they are wanted.

    Chains run apart, since somebody looks at what is between their calls: the bits are the same.
    """
    found: list[LayerDigest] = []
    seen: list[list[Tensor]] = []

    def keep(name: str, call: int, module: nn.Module, outputs: list[Tensor]) -> None:
        here = [tensor.detach().cpu() for tensor in outputs]
        found.append(LayerDigest(name, type(module).__name__, call, len(here), digest(here)))
        if values:
            seen.append([tensor.clone() for tensor in here])  # what follows may work in place

    with torch.no_grad(), after_every_module(model, keep):
        call_model(model, inputs)
    return found, seen if values else None
