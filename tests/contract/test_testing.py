"""bninv.testing: its assertions can fail, and say where."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bninv.testing import (
    assert_batch_invariant,
    assert_bitwise_equal,
    cpu_capabilities,
    cpu_capability,
)


def test_equal_tensors_pass() -> None:
    x = torch.tensor([1.0, -0.0, float("nan"), float("inf"), 1e-45])
    assert_bitwise_equal(x, x.clone())
    assert_bitwise_equal(x.half(), x.half())
    assert_bitwise_equal(torch.arange(3), torch.arange(3))
    assert_bitwise_equal(torch.empty(0, 3), torch.empty(0, 3))
    grid = torch.arange(12.0).view(3, 4)
    assert_bitwise_equal(grid.t().contiguous().t(), grid)


def test_payloads_of_nan_are_no_difference() -> None:
    patterns = torch.tensor([0x7FC00000, 0x7FC00001, -0x400000], dtype=torch.int32)
    nan = patterns.view(torch.float32)
    assert nan.isnan().all()
    assert_bitwise_equal(nan, nan.flip(0))


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0000002]),
        ([1.0, 0.0], [1.0, -0.0]),
        ([1.0, float("nan")], [1.0, 2.0]),
        ([1.0, 1e-45], [1.0, 0.0]),
    ],
)
def test_a_difference_is_located(actual: list[float], expected: list[float]) -> None:
    with pytest.raises(AssertionError, match=r"here: 1 of 2 elements .*\[1\]"):
        assert_bitwise_equal(torch.tensor(actual), torch.tensor(expected), "here")


def test_shape_and_dtype_count() -> None:
    with pytest.raises(AssertionError, match="shape"):
        assert_bitwise_equal(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(AssertionError, match="dtype"):
        assert_bitwise_equal(torch.ones(2), torch.ones(2).double())


SAMPLES = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


def test_an_invariant_function_passes() -> None:
    assert_batch_invariant(torch.relu, SAMPLES)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x + x.sum(0), id="neighbours"),
        pytest.param(lambda x: x + len(x), id="batch size"),
        pytest.param(lambda x: x + torch.arange(len(x))[:, None], id="position"),
        pytest.param(lambda x: x + x[:1] * 0, id="NaN in a neighbour"),
    ],
)
def test_a_dependence_is_found(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError):
        assert_batch_invariant(function, SAMPLES)


def test_levels_are_restored() -> None:
    assert cpu_capabilities()[0] == "scalar"
    before = torch.ops.bninv._cpu_capability()

    def fail_at_scalar() -> None:
        with cpu_capability("scalar"):
            assert torch.ops.bninv._cpu_capability() == "scalar"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_scalar()
    assert torch.ops.bninv._cpu_capability() == before
    with pytest.raises((ValueError, RuntimeError), match="sse9"), cpu_capability("sse9"):
        pass
