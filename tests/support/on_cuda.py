"""CUDA's bits beside the CPU's."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.support.emulated import run
from tests.support.properties import assert_bits


def assert_as_cpu(device: str, name: str, x: Tensor, *args: Any, message: str = "") -> Tensor:
    """Bits and strides of operator `name` on `device`; nothing is written to the input."""
    before = x.clone()
    actual, expected = run(device, name, x, *args), run("cpu", name, x, *args)
    message = f"{name} of {tuple(x.shape)}, {x.dtype}, {args[:1]}: {message}"
    assert_bits(actual, expected, message)
    assert actual.stride() == expected.stride(), message
    assert_bits(x, before, message)
    return actual
