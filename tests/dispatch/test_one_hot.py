"""one_hot is PyTorch's, whatever it is given: only how it looks for wrong classes is not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor

import bninv


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (3, 1, 4)], ids=str)
@pytest.mark.parametrize("num_classes", [7, -1])
def test_equals_stock(shape: tuple[int, ...], num_classes: int) -> None:
    classes = torch.arange(torch.Size(shape).numel()).remainder(7).view(shape)
    if classes.numel() == 0 and num_classes < 0:
        with bninv.invariant(), pytest.raises(RuntimeError, match="infer total number of classes"):
            TF.one_hot(classes, num_classes)
        return
    expected = TF.one_hot(classes, num_classes)
    with bninv.invariant():
        found = TF.one_hot(classes, num_classes)
    assert found.dtype is torch.int64 and torch.equal(found, expected)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_wrong_class_has_the_message_of_stock(wrong: int) -> None:
    classes = torch.tensor([0, wrong])
    with pytest.raises(RuntimeError) as stock:
        TF.one_hot(classes, 3)
    with bninv.invariant(), pytest.raises(RuntimeError) as found:
        TF.one_hot(classes, 3)
    assert str(found.value) == str(stock.value)


def test_compiles() -> None:
    class Classes(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return TF.one_hot(x.long(), 3)

    x = torch.tensor([0.0, 2.0, 1.0])
    model = bninv.patch(Classes().eval())
    with torch.no_grad():
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))
