"""A patched layer's call goes straight to its forward, unless something is to happen around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bninv
from tests.support.properties import assert_bits, normal

X = normal("x", 3, 6)


def layer() -> Any:
    torch.manual_seed(0)
    return bninv.patch(nn.Linear(6, 4).eval())


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_each_kind_of_hook_is_called(kind: str) -> None:
    """In training with gradients, where a patched layer is the stock one."""
    model, seen = layer().train(), []
    register = getattr(model, f"register_{kind}_hook")
    handle = register(lambda *args: seen.append(kind))
    inputs = X.clone().requires_grad_()
    model(inputs).sum().backward()
    assert seen == [kind]
    handle.remove()
    model(inputs).sum().backward()
    assert seen == [kind]


def test_what_a_hook_gives_is_the_result() -> None:
    model = layer()
    with torch.no_grad():
        expected = model(X)
        model.register_forward_hook(lambda module, args, result: result * 2)
        assert_bits(model(X), expected * 2)
        model.register_forward_pre_hook(lambda module, args: (args[0] * 0,))
        assert_bits(model(X), model.bias.expand(3, 4) * 2)


def test_a_forward_of_the_instance_runs() -> None:
    model = layer()
    model.forward = lambda x: x + 1
    assert_bits(model(X), X + 1)


def test_a_compiled_layer_runs_compiled() -> None:
    model, seen = layer(), []

    def backend(graph: Any, example: Any) -> Any:
        seen.append(graph)
        return graph.forward

    with torch.no_grad():
        expected = model(X)
        model.compile(backend=backend, fullgraph=True)
        assert_bits(model(X), expected)
    assert len(seen) == 1


def test_weights_that_are_no_parameters() -> None:
    model = layer()
    with torch.no_grad():
        expected = model(X)
        weight = model.weight.clone()
        torch.nn.utils.parametrizations.weight_norm(model)
        assert model._parameters.get("weight") is None
        assert torch.allclose(model(X), expected, atol=1e-6)
        torch.nn.utils.parametrize.remove_parametrizations(model, "weight")
        del model.weight
        model.weight = weight  # a plain attribute
        assert_bits(model(X), expected)
