"""How far convolution and linear lie from the exact result: never beyond R1's bound, and on average
about where stock PyTorch lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import bninv.functional as F
from tests.support.properties import generator

SEGMENT = 128
UNIT = 2.0**-24
DRAWS = 120


def draw_conv2d(rng: np.random.Generator) -> tuple[Tensor, Tensor, dict]:
    groups = int(rng.choice([1, 1, 1, 2, 4]))
    channels = int(rng.choice([1, 3, 16, 24, 64, 130, 300]))
    kernel = rng.choice([1, 3, 5, 7], p=[0.3, 0.4, 0.2, 0.1])
    stride = int(rng.integers(1, 3))
    shape = (int(rng.integers(1, 4)), channels * groups, *rng.integers(7, 16, 2))
    weight_shape = (int(rng.choice([8, 16, 40])) * groups, channels, kernel, kernel)
    options = {"stride": stride, "padding": int(kernel) // 2, "groups": groups}
    return tensor(rng, shape), tensor(rng, weight_shape), options


def draw_linear(rng: np.random.Generator) -> tuple[Tensor, Tensor, dict]:
    features = int(rng.choice([40, 128, 130, 512, 1000, 2048, 4096]))
    x = tensor(rng, (int(rng.integers(1, 20)), features))
    return x, tensor(rng, (int(rng.integers(10, 200)), features)), {}


def tensor(rng: np.random.Generator, shape) -> Tensor:
    """Normal numbers, or non-negative ones as behind a ReLU: those sums do not cancel."""
    values = rng.standard_normal(tuple(int(n) for n in shape), np.float32)
    return torch.from_numpy(np.maximum(values, 0) if rng.random() < 0.3 else values)


OPERATORS = {"conv2d": draw_conv2d, "linear": draw_linear}


def errors(name: str, seed: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Errors of this package and of stock PyTorch, sum|a b|, and the number of terms."""
    x, weight, options = OPERATORS[name](generator((name, seed)))
    stock = getattr(torch.nn.functional, name)
    exact = stock(x.double(), weight.double(), **options)
    magnitude = stock(x.double().abs(), weight.double().abs(), **options)
    ours = (getattr(F, name)(x, weight, **options).double() - exact).abs()
    theirs = (stock(x, weight, **options).double() - exact).abs()
    return ours, theirs, magnitude, weight[0].numel()


@pytest.mark.parametrize("name", OPERATORS)
def test_error_is_bounded_and_on_average_like_stock(name: str) -> None:
    logarithms = []
    for seed in range(DRAWS):
        ours, theirs, magnitude, terms = errors(name, seed)
        bound = (min(terms, SEGMENT) + terms / SEGMENT + 2) * UNIT * magnitude
        assert (ours <= bound).all(), f"draw {seed}: {(ours / bound).max().item():.3g} of the bound"
        logarithms.append(math.log(ours.mean().item() / theirs.mean().item()))
    ratio = math.exp(sum(logarithms) / DRAWS)
    print(f"{name}: mean error {ratio:.3f} of stock's")
    assert ratio <= 1.2


@pytest.mark.parametrize("name", OPERATORS)
def test_error_with_a_bias_is_bounded(name: str) -> None:
    for seed in range(20):
        x, weight, options = OPERATORS[name](generator((name, seed, "bias")))
        bias = tensor(generator(seed), (len(weight),))
        stock = getattr(torch.nn.functional, name)
        exact = stock(x.double(), weight.double(), bias.double(), **options)
        magnitude = stock(x.double().abs(), weight.double().abs(), bias.double().abs(), **options)
        terms = weight[0].numel()
        bound = (min(terms, SEGMENT) + terms / SEGMENT + 2) * UNIT * magnitude
        assert (
            (getattr(F, name)(x, weight, bias, **options).double() - exact).abs() <= bound
        ).all()
