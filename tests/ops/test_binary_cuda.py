"""Elementwise functions of two tensors on CUDA have the bits of the CPU: emulated everywhere, on a
GPU if any.
"""

from __future__ import annotations

import pytest
import torch

from bninv.operators import binary
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import any_bits, expansions, layouts, normal
from tests.support.reference_dtypes import FLOATING

NAMES = [op.name for op in binary.OPERATORS]
# A block takes 1024 elements.
SIZES = [1, 1023, 1024, 1025, 5 * 1024 - 1]
cases = [
    pytest.mark.parametrize("name", NAMES),
    pytest.mark.parametrize("dtype", FLOATING, ids=str),
]


@cases[0]
@cases[1]
def test_equals_cpu(device: str, name: str, dtype: torch.dtype) -> None:
    for size in SIZES:
        x, y = any_bits("x", (size,), dtype), any_bits("y", (size,), dtype)
        assert_as_cpu(device, name, x, y, message=f"{size} elements")
    x, y = normal("x", 3000, dtype=dtype).abs(), normal("y", 3000, dtype=dtype) * 9
    assert_as_cpu(device, name, x, y)
    assert_as_cpu(device, name, x, y[:1].expand(3000), message="one number")
    assert_as_cpu(device, name, x[:1].expand(3000), y, message="of one number")


def test_layouts(device: str) -> None:
    x, y = normal("x", 3, 5, 7, 4).abs(), normal("y", 3, 5, 7, 4)
    for name, view in (*layouts(x), *expansions(x)):
        assert_as_cpu(device, "pow", view, y, message=name)
        assert_as_cpu(device, "atan2", y.transpose(1, 2).contiguous().mT.mT.transpose(1, 2), view)


def test_empty(device: str) -> None:
    for name in NAMES:
        assert_as_cpu(device, name, torch.zeros(0, 5), torch.zeros(0, 5))
