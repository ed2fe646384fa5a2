"""Tensors beyond what 32-bit indices reach.

Results take 8.6 GB; huge inputs are zeros in pages that nothing ever writes. About 10 s a test.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import bninv.functional as F
from tests.support.properties import assert_bits, normal, positive

BEYOND = 2**31 + 5


def available_gigabytes() -> float:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0.0
    return int(lines["MemAvailable"].split()[0]) / 2**20


pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]


@pytest.fixture(autouse=True)
def _needs_memory() -> None:
    if available_gigabytes() < 20:
        pytest.skip("needs 20 GB of free memory")


def zeros_with(shape: tuple[int, ...], marks: dict[int, Tensor]) -> Tensor:
    """Zeros but for a few stretches of its flat elements.

    NumPy's zeros, unlike PyTorch's, are pages that take no memory until they are written.
    """
    x = torch.from_numpy(np.zeros(shape, np.float32))
    for start, values in marks.items():
        x.view(-1)[start : start + len(values)] = values
    return x


STARTS = (0, 2**30 - 3, 2**31 - 120, BEYOND - 37)
MARKS = {start: normal(start, 37) for start in STARTS}


def test_elementwise() -> None:
    result = F.relu(zeros_with((BEYOND,), MARKS))
    for start, values in MARKS.items():
        assert_bits(result[start : start + 37], F.relu(values), str(start))
    assert result[37 : 2**20].count_nonzero() == 0


@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_norm(channels_last: bool) -> None:
    """Channels slowest and fastest; the sum of all sizes is beyond 2^31 elements."""
    pixels = 2**10
    batch = BEYOND // (5 * pixels) + 1
    shape = (batch, pixels, 5) if channels_last else (batch, 5, pixels)
    x = zeros_with(shape, {})
    x = x.transpose(1, 2) if channels_last else x
    parameters = normal("mean", 5), positive("var", 5), normal("w", 5), normal("b", 5)
    samples = (0, batch // 2, batch - 1)
    for i in samples:
        x[i] = normal(i, 5, pixels)
    result = F.batch_norm(x, *parameters)
    for i in samples:
        assert_bits(result[i], F.batch_norm(x[i : i + 1].contiguous(), *parameters)[0], str(i))


def test_conv2d_and_pooling_read_far_away() -> None:
    """Small outputs of a huge input."""
    weight = normal("w", 3, 2, 1, 1)
    x = zeros_with((2, 2, 2**15, 2**14 + 1), {2**31 + 2**10: normal("far", 37)})
    assert x.numel() > 2**31
    picked = x[:, :, ::331, ::347].contiguous()
    assert_bits(F.conv2d(x, weight, stride=(331, 347)), F.conv2d(picked, weight))
    assert_bits(F.max_pool2d(x, 1, stride=(331, 347)), picked)
    sums = F.sum(x, (2, 3))
    assert_bits(sums[0], torch.zeros(2))
    assert sums.count_nonzero() == 1


def test_linear_with_many_results() -> None:
    """More than 2^31 results from few numbers."""
    x, weight = normal("x", 2**16 + 1, 3), normal("w", 2**15 + 1, 3)
    result = F.linear(x, weight)
    assert result.numel() > 2**31
    for row in (0, 2**15, 2**16):
        assert_bits(result[row], F.linear(x[row : row + 1], weight)[0], f"row {row}")
