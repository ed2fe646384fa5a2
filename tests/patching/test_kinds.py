"""Every kind of module that patch knows: invariant, close to stock, and stock after unpatch."""

from __future__ import annotations

import copy

import pytest
import timm.layers as tl
import torch
from timm.layers.adaptive_avgmax_pool import FastAdaptiveMaxPool
from torch import Tensor, nn

import bninv
from bninv.modules.base import Patched
from bninv.operators import KINDS
from bninv.testing import assert_batch_invariant, assert_bitwise_equal
from tests.support.module_cases import (
    CASES,
    IMAGE,
    randomized,
    with_fast_norm,
)


@pytest.mark.filterwarnings("ignore:Using padding='same'", "ignore:LSTM with projections")
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_kind(name: str) -> None:
    make, shape = CASES[name]
    module = randomized(make)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    stock = module(x.clone())
    patched = bninv.patch(copy.deepcopy(module), strict=True)
    assert any(isinstance(m, Patched) for m in patched.modules()), "nothing was patched"
    result = patched(x.clone())
    assert result.shape == stock.shape
    torch.testing.assert_close(result, stock, rtol=1e-5, atol=1e-5)
    assert_batch_invariant(lambda batch: patched(batch.clone()), x, batch_sizes=(1, 2, 3, 5))
    assert_bitwise_equal(bninv.unpatch(patched)(x.clone()), stock)


def test_every_kind_has_a_case() -> None:
    """A row of KINDS whose class nobody makes here is a row that nothing tests."""
    used = set()
    for make, _ in CASES.values():
        for module in bninv.patch(randomized(make)).modules():
            if isinstance(module, Patched) and module.is_kind:
                used.add(type(module)._mixin)
    assert used == set(KINDS.values())


@torch.no_grad()
@pytest.mark.parametrize("kind", [tl.LayerNorm2d, tl.GroupNorm1, tl.RmsNorm2d, tl.LayerNormAct2d])
@pytest.mark.parametrize("fast", [False, True], ids=["", "fast norm"])
def test_norms_under_autocast_have_stocks_dtype(kind: type[nn.Module], fast: bool) -> None:
    """timm's fast norms take the autocast dtype where stock ones keep the input's."""
    module = with_fast_norm(kind) if fast else kind(12)
    x = torch.randn(2, *IMAGE, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        stock = module.eval()(x)
        result = bninv.patch(module)(x)
    assert result.dtype == stock.dtype
    torch.testing.assert_close(result, stock, rtol=2e-2, atol=2e-2)


@torch.no_grad()
def test_in_place_activations_change_their_input() -> None:
    for act in (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid):
        module = bninv.patch(act(inplace=True).eval())
        x = torch.linspace(-4, 4, 41)
        expected = bninv.patch(act().eval())(x)
        assert module(x) is x
        assert_bitwise_equal(x, expected, act.__name__)


def test_in_place_activation_is_seen_by_a_backward_that_saved_its_input() -> None:
    x = torch.randn(4, requires_grad=True)
    y = torch.exp(x)  # saves its result
    with torch.no_grad():
        bninv.patch(nn.SiLU(inplace=True).eval())(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_in_place_activation_keeps_the_history_of_its_input() -> None:
    x = torch.randn(4, requires_grad=True)
    y = x * 2
    assert bninv.patch(nn.SiLU(inplace=True).eval())(y) is y
    with pytest.raises(NotImplementedError, match="no backward yet"):
        y.sum().backward()


@torch.no_grad()
def test_zeros_of_both_signs_do_not_depend_on_their_place() -> None:
    pool = bninv.patch(FastAdaptiveMaxPool(flatten=True).eval())
    x = torch.full((1, 40, 3, 3), -0.0)
    for place in range(9):
        y: Tensor = x.clone()
        y[:, :, place // 3, place % 3] = 0.0
        for memory_format in (torch.contiguous_format, torch.channels_last):
            result = pool(y.clone(memory_format=memory_format))
            assert_bitwise_equal(result, torch.zeros(1, 40), f"at {place}, {memory_format}")
