"""Modules of torch.nn without a kind of bninv's, whose calls are exact or covered."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv.modules.exact import is_seen_by_its_calls
from bninv.testing import assert_bitwise_equal
from tests.support.properties import layouts, normal

IMAGE, VOLUME = normal("image", 5, 6, 8, 9), normal("volume", 5, 3, 6, 5, 4)
SEQUENCE = normal("sequence", 5, 9, 12)
BLOCKS = normal("blocks", 5, 18, 16)
INDICES = torch.arange(10).view(5, 2)


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, **options)


# Those that run bninv's arithmetic.
OWN = {"Fold", "GLU", "LPPool2d", "LocalResponseNorm", "RReLU", "Softmin", "Softshrink"}
OWN |= {"Tanhshrink", "TransformerEncoder"}

CASES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "PReLU": (lambda: nn.PReLU(6, init=0.3), IMAGE),
    "PReLU of one slope": (nn.PReLU, IMAGE),
    "Hardtanh": (lambda: nn.Hardtanh(-1, 0.5), IMAGE),
    "Hardtanh at zero": (lambda: nn.Hardtanh(0, 1), IMAGE),
    "Threshold": (lambda: nn.Threshold(0.1, 2.0), IMAGE),
    "Hardshrink": (nn.Hardshrink, IMAGE),
    "Softmin": (lambda: nn.Softmin(1), IMAGE),
    "Softsign": (nn.Softsign, IMAGE),
    "Tanhshrink": (nn.Tanhshrink, IMAGE),
    "GLU": (lambda: nn.GLU(1), IMAGE),
    "RReLU": (nn.RReLU, IMAGE),
    "Softshrink": (nn.Softshrink, IMAGE),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, 0.5), IMAGE),
    "Fold": (lambda: nn.Fold((7, 8), (2, 3), (1, 2), (1, 0), (2, 1)), BLOCKS),
    "LPPool2d": (lambda: nn.LPPool2d(2, 3, 2), IMAGE),
    "Unfold": (lambda: nn.Unfold(3, padding=1), IMAGE),
    "MaxPool3d": (lambda: nn.MaxPool3d(2, 1, 1), VOLUME),
    "MaxPool3d with indices": (lambda: nn.MaxPool3d(2, return_indices=True), VOLUME),
    "MaxPool2d with indices": (lambda: nn.MaxPool2d(3, 2, 1, return_indices=True), IMAGE),
    "MaxPool1d with indices": (lambda: nn.MaxPool1d(2, return_indices=True), IMAGE[:, :, 0]),
    "AdaptiveMaxPool2d with indices": (lambda: nn.AdaptiveMaxPool2d(3, True), IMAGE),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d((2, None, 3)), VOLUME),
    "TransformerEncoderLayer": (lambda: encoder_layer(), SEQUENCE),
    "TransformerEncoderLayer first": (
        lambda: encoder_layer(norm_first=True, activation=F.gelu),
        SEQUENCE,
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False),
        SEQUENCE,
    ),
    "Embedding": (lambda: nn.Embedding(10, 7, padding_idx=3), INDICES),
    "Embedding from rows": (lambda: nn.Embedding.from_pretrained(IMAGE[0, 0]), INDICES % 8),
}


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        result = model(x)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_it_runs_strictly_and_a_sample_has_one_set_of_bits(name: str, dtype: torch.dtype) -> None:
    make, x = CASES[name]
    x = x.to(dtype) if x.is_floating_point() else x
    stock = nn.Sequential(make()).eval().to(dtype)
    model = bninv.patch(copy.deepcopy(stock), strict=True)
    whole = outputs(model, x)
    for begin, end in ((0, 1), (2, 4), (4, 5)):
        for part, all_ in zip(outputs(model, x[begin:end]), whole, strict=True):
            assert_bitwise_equal(part, all_[begin:end])
    if x.is_floating_point():
        for label, y in layouts(x):
            assert_bitwise_equal(outputs(model, y)[0], whole[0], label)
    if name.split()[0].removesuffix("Layer") not in OWN:
        for own, theirs in zip(whole, outputs(stock, x), strict=True):
            assert_bitwise_equal(own, theirs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_bitwise_equal(outputs(other, x)[0], whole[0])
    bninv.unpatch(model)
    assert type(model[0]) is type(stock[0])


def test_below_a_convolution() -> None:
    model = bninv.patch(nn.Sequential(nn.Conv2d(6, 8, 3), nn.PReLU(8)).eval(), strict=True)
    (whole,) = outputs(model, IMAGE)
    assert_bitwise_equal(outputs(model, IMAGE[:1])[0], whole[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fold_adds_by_places_in_the_kernel(dtype: torch.dtype) -> None:
    blocks = BLOCKS.to(dtype)
    with torch.no_grad(), bninv.invariant(strict=True):
        result = F.fold(blocks, (7, 8), (2, 3), (1, 2), (1, 0), (2, 1))
    terms = blocks.to(torch.promote_types(dtype, torch.float32)).view(5, 3, 2, 3, 4, 4).numpy()
    expected = np.zeros((5, 3, 9, 8), terms.dtype)
    for r, s, row, column in np.ndindex(2, 3, 4, 4):
        expected[:, :, 2 * row + r, column + 2 * s] += terms[:, :, r, s, row, column]
    assert_bitwise_equal(result, torch.from_numpy(expected[:, :, 1:8].copy()).to(dtype))


def test_fold_of_an_empty_batch() -> None:
    with torch.no_grad(), bninv.invariant(strict=True):
        assert F.fold(BLOCKS[:0], (7, 8), (2, 3), (1, 2), (1, 0), (2, 1)).shape == (0, 3, 7, 8)


def test_the_arguments_decide() -> None:
    model = bninv.patch(nn.Embedding(9, 3, max_norm=1.0).eval())
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="embedding_renorm_"):
        model(torch.arange(4))
    assert bninv.uncovered(model)


def test_in_training_mode_it_is_stock() -> None:
    model = bninv.patch(nn.PReLU(6)).train()
    model(IMAGE).sum().backward()
    assert model.weight.grad is not None


def test_a_subclass_keeps_its_methods_under_protection() -> None:
    class Scaled(nn.PReLU):
        def pooled(self, x: Tensor) -> Tensor:
            return self(x).mean((2, 3))

    model = bninv.patch(Scaled(6).eval(), strict=True)
    with torch.no_grad():
        assert_bitwise_equal(model.pooled(IMAGE)[:1], model.pooled(IMAGE[:1]))


def test_it_is_said_of_modules_of_torch_only() -> None:
    for make, _ in CASES.values():
        owner = next(cls for cls in type(make()).__mro__ if "forward" in vars(cls))
        assert is_seen_by_its_calls(f"{owner.__module__}.{owner.__qualname__}")
