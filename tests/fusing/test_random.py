"""Any straight-line block gives equal bits fused and unfused, and changes the same tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, note, settings

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support import random_blocks
from tests.support.random_blocks import CHANNELS, SIZE, block_of, forwards, run

ATTEMPTS = 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=ATTEMPTS)
@given(source=forwards())
def test_fused_is_unfused(source: str, dtype: torch.dtype) -> None:
    block = block_of(source).to(dtype)
    fused = bninv.patch(copy.deepcopy(block), trust=(random_blocks.__name__,))
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
        found = bninv.fusion(bninv.patch(block_of(source), trust=(random_blocks.__name__,)))
        assert not found.unfused, found.unfused[0]
        counts.append(found.chains)

    look()
    assert sum(chains > 0 for chains in counts) > len(counts) / 3
    assert max(counts) > 2
