"""Code that reads results as if they were contiguous gets stock's numbers, or an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal


class Net(nn.Module):
    def __init__(self, read: Any) -> None:
        super().__init__()
        self.conv, self.read = nn.Conv2d(3, 4, 3), read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.conv(x))


def flat(y: Tensor) -> Tensor:
    return y.view(len(y), -1)


def flat_and_written_to(y: Tensor) -> Tensor:
    rows = y.view(len(y), -1)
    rows += 1  # seen by `y` too
    return rows + y.flatten(1)


def merged(y: Tensor) -> Tensor:
    return y.relu_().view(-1, y.shape[-1])


def shared(y: Tensor) -> Tensor:
    part = y[:, :2]
    return y.view(len(y), -1)[:, :1] + part.sum()


def windows(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.as_strided((n, c, h - 1, 2, w), (c * h * w, h * w, w, w, 1)).contiguous()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MODES = pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
WAYS = pytest.mark.parametrize("options", [{}, {"strict": True}, {"trust": (__name__,)}], ids=str)


def patched(read: Any, **options: Any) -> Net:
    torch.manual_seed(0)
    return bninv.patch(Net(read).eval(), **options)


@WAYS
@MODES
@pytest.mark.parametrize("read", [flat, flat_and_written_to, merged])
def test_a_view_works_and_shares_its_memory(read: Any, mode: Any, options: Any) -> None:
    net = patched(read, **options)
    contiguous = patched(lambda y: read(y.contiguous()), **options)
    with mode():
        assert_bitwise_equal(net(X).detach(), contiguous(X).detach())


@WAYS
@MODES
def test_a_view_of_shared_memory_says_what_to_do(mode: Any, options: Any) -> None:
    with mode(), pytest.raises(RuntimeError, match=r"after bninv.patch .* use flatten or reshape"):
        patched(shared, **options)(X)


@WAYS
@MODES
def test_strides_for_other_memory_are_refused(mode: Any, options: Any) -> None:
    with mode(), pytest.raises(RuntimeError, match=r"after bninv.patch .* call .contiguous\(\)"):
        patched(windows, **options)(X)
    with mode():
        stock = Net(lambda y: windows(y.contiguous())).eval()
        assert patched(lambda y: windows(y.contiguous()), **options)(X).shape == stock(X).shape


def test_a_view_that_fails_in_stock_fails() -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="view size is not compatible"):
        patched(lambda y: y.transpose(2, 3)[:, :, ::2].view(len(y), -1))(X)
