"""Bad tensors get an error that names the argument, never a wrong number and never a crash.

Bad shapes and values: test_errors_values.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.calls import (
    BESIDE_FLOAT32,
    CALLS,
    DTYPES,
    TENSOR_ARGUMENTS,
    assert_refused,
    call,
)
from tests.support.properties import assert_bits


@pytest.mark.parametrize("name", CALLS)
def test_the_good_calls_are_good(name: str) -> None:
    assert call(name).dtype == torch.float32


# ---- dtype, device, layout -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.float8_e4m3fn,
    ],
    ids=str,
)
@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_wrong_dtype(name: str, argument: str, dtype: torch.dtype) -> None:
    """The message says what the argument was and what it may be."""
    spoiled = CALLS[name][1][argument].to(dtype)
    if argument == "input" and dtype in BESIDE_FLOAT32[name]:
        assert call(name, input=spoiled).dtype == dtype
        return
    message = assert_refused(name, argument, **{argument: spoiled}).lower()
    assert "float32" in message
    if dtype != torch.float8_e4m3fn:  # it has no name in every layer of PyTorch
        assert str(dtype).removeprefix("torch.") in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_all_arguments_of_another_dtype(name: str, dtype: torch.dtype) -> None:
    changed = {k: v.to(dtype) for k, v in CALLS[name][1].items() if isinstance(v, Tensor)}
    if dtype in DTYPES[name]:
        assert call(name, **changed).dtype == dtype
    else:
        assert_refused(name, "input", **changed)


@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_sparse(name: str, argument: str) -> None:
    assert_refused(name, argument, **{argument: CALLS[name][1][argument].to_sparse()})


@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_quantized(name: str, argument: str) -> None:
    quantized = torch.quantize_per_tensor(CALLS[name][1][argument], 0.1, 0, torch.qint8)
    assert_refused(name, argument, **{argument: quantized})


@pytest.mark.parametrize(
    ("name", "argument"), [(n, a) for n, a in TENSOR_ARGUMENTS if len(CALLS[n][1]) > 2]
)
def test_mixed_devices(name: str, argument: str) -> None:
    """One argument without data among others that have some."""
    others = [v for v in CALLS[name][1].values() if isinstance(v, Tensor)]
    if len(others) == 1:
        return
    meta = CALLS[name][1][argument].to("meta")
    message = assert_refused(name, r"(device|meta|" + argument + ")", **{argument: meta})
    assert "meta" in message or "device" in message


@pytest.mark.parametrize("name", CALLS)
def test_meta_infers_shapes(name: str) -> None:
    meta = {k: v.to("meta") for k, v in CALLS[name][1].items() if isinstance(v, Tensor)}
    result, expected = call(name, **meta), call(name)
    assert result.device.type == "meta"
    assert (result.shape, result.dtype, result.stride()) == (
        expected.shape,
        expected.dtype,
        expected.stride(),
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [None, 3, [1.0], "x"])
def test_not_a_tensor(name: str, value: Any) -> None:
    first = next(iter(CALLS[name][1]))
    assert_refused(name, first, **{first: value})


# ---- Empty, gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CALLS if n != "baddbmm"])  # its input is added
def test_empty_batch(name: str) -> None:
    names = ("query", "key", "value", "grid", "boxes", "offset", "input")
    empty = {k: v[:0] for k, v in CALLS[name][1].items() if k in names}
    assert call(name, **empty).shape == (0, *call(name).shape[1:])


@pytest.mark.parametrize("name", ["relu", "sigmoid", "batch_norm"])
def test_empty_space(name: str) -> None:
    assert call(name, input=torch.ones(2, 6, 0, 3)).shape == (2, 6, 0, 3)


@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_gradients(name: str, argument: str) -> None:
    """The forward is unchanged; the backward says that it is missing instead of giving none."""
    expected = call(name)
    leaf = CALLS[name][1][argument].clone().requires_grad_()
    result = call(name, **{argument: leaf})
    assert_bits(result, expected)
    assert result.requires_grad
    with pytest.raises(RuntimeError, match=r"(?i)bninv.*(backward|gradient|derivative)"):
        result.sum().backward()
    with torch.no_grad():
        assert not call(name, **{argument: leaf}).requires_grad
    with torch.inference_mode():
        assert_bits(call(name, **{argument: leaf}), expected)
