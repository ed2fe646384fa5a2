"""nn.MultiheadAttention and what calls it: their own code, whose calls are looked up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support.properties import normal

X, MEMORY = normal("x", 5, 9, 12), normal("memory", 5, 7, 8)
LATER = torch.ones(9, 9, dtype=torch.bool).triu(1)
PADDING = torch.arange(9).expand(5, 9) >= torch.tensor([[9], [7], [9], [5], [8]])


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(12, 3, batch_first=True, **options).eval()


def both(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, ...]:
    """Results of the whole batch, patched; compared with each sample's own, and with stock's."""
    model = bninv.patch(copy.deepcopy(module), strict=True)

    def run(which: nn.Module, part: slice) -> tuple[Tensor, ...]:
        own = [a[part] if isinstance(a, Tensor) and len(a) == 5 else a for a in args]
        named = {
            name: v[part] if isinstance(v, Tensor) and len(v) == 5 else v
            for name, v in options.items()
        }
        result = which(*own, **named)
        return tuple(
            r for r in (result if isinstance(result, tuple) else (result,)) if r is not None
        )

    with torch.no_grad():
        whole, stock = run(model, slice(None)), run(module, slice(None))
        for i in range(5):
            for part, all_ in zip(run(model, slice(i, i + 1)), whole, strict=True):
                assert_bitwise_equal(part, all_[i : i + 1])
    for mine, theirs in zip(whole, stock, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, equal_nan=True)
    return whole


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": LATER},
        {"attn_mask": normal("added", 9, 9)},
        {"key_padding_mask": PADDING},
        {"key_padding_mask": PADDING, "attn_mask": LATER},
        {"is_causal": True, "attn_mask": LATER},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_self_attention(options: dict[str, Any], weights: bool) -> None:
    both(attention(), X, X, X, need_weights=weights, **options)


@pytest.mark.parametrize("weights", [True, False])
def test_other_keys(weights: bool) -> None:
    module = attention(kdim=8, vdim=8, add_bias_kv=True, add_zero_attn=True)
    both(module, X, MEMORY, MEMORY, need_weights=weights)
    both(attention(bias=False), X, X[:, :4], X[:, :4], need_weights=weights)


def test_no_key_left_is_as_in_stock() -> None:
    padding = PADDING.clone()
    padding[2] = True
    with_weights, _ = both(attention(), X, X, X, key_padding_mask=padding)
    assert with_weights[2].isnan().all()
    (without,) = both(attention(), X, X, X, key_padding_mask=padding, need_weights=False)
    assert without[2].isfinite().all()


def test_its_weights_are_laid_out_and_given_back() -> None:
    module = attention()
    before = module.in_proj_weight.clone()
    bninv.patch(module)
    assert module.in_proj_weight.stride() == (1, 36)
    bninv.unpatch(module)
    assert module.in_proj_weight.stride() == (12, 1)
    assert_bitwise_equal(module.in_proj_weight, before)


def test_layers_around_it() -> None:
    layer = nn.TransformerDecoderLayer(12, 3, 20, batch_first=True).eval()
    memory = normal("m", 5, 7, 12)
    both(layer, X, memory)
    both(nn.TransformerDecoder(layer, 2).eval(), X, memory, tgt_mask=LATER)
    encoder = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True).eval()
    both(encoder, X, src_key_padding_mask=PADDING)
    # By default it first asks for nested tensors, of which PyTorch warns.
    layers = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False).eval()
    both(layers, X, src_key_padding_mask=PADDING)
    both(nn.Transformer(12, 2, 1, 1, 20, batch_first=True).eval(), X, memory)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of PyTorch's own code
def test_it_is_traced() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention()

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return result

    model = bninv.patch(Attending().eval())
    with torch.no_grad():
        assert_bitwise_equal(torch.jit.trace(model, X[:2], check_trace=False)(X), model(X))


def test_a_call_of_the_function() -> None:
    module = attention()
    with torch.no_grad(), bninv.invariant(strict=True):
        result, _ = F.multi_head_attention_forward(
            *(X.transpose(0, 1),) * 3,
            *(12, 3, module.in_proj_weight, module.in_proj_bias, None, None, False, 0.0),
            *(module.out_proj.weight, module.out_proj.bias),
            training=False,
            need_weights=False,
        )
    (expected,) = both(module, X, X, X, need_weights=False)
    assert_bitwise_equal(result.transpose(0, 1), expected)
