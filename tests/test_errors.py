"""Bad tensors get an error that names the argument, never a wrong number and never a crash.

Bad shapes and values: test_errors_values.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from properties import assert_bits, normal
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv._shown import shown
from bninv.operators import OPERATORS, unary

ERRORS = (TypeError, ValueError, RuntimeError)

X4, X3, X2 = normal("x4", 2, 6, 5, 7), normal("x3", 2, 6, 9), normal("x2", 3, 6)
W4, W3, W2 = normal("w4", 4, 6, 3, 3), normal("w3", 4, 6, 3), normal("w2", 4, 6)
BIAS = normal("bias", 4)
STATISTICS = {
    "running_mean": normal("mean", 6),
    "running_var": normal("var", 6).abs(),
    "weight": normal("weight", 6),
    "bias": normal("bias", 6),
}
AFFINE = {name: STATISTICS[name] for name in ("weight", "bias")}

ELEMENTWISE = tuple(op.name for op in unary.OPERATORS)
# Each operator with good arguments; a test spoils one at a time.
CALLS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "conv1d": (F.conv1d, {"input": X3, "weight": W3, "bias": BIAS}),
    "conv2d": (F.conv2d, {"input": X4, "weight": W4, "bias": BIAS}),
    "linear": (F.linear, {"input": X2, "weight": W2, "bias": BIAS}),
    "batch_norm": (F.batch_norm, {"input": X4, **STATISTICS}),
    "layer_norm": (
        F.layer_norm,
        {"input": X2, "normalized_shape": 6, **AFFINE},
    ),
    "rms_norm": (F.rms_norm, {"input": X2, "normalized_shape": 6, "weight": AFFINE["weight"]}),
    "group_norm": (F.group_norm, {"input": X4, "num_groups": 3, **AFFINE}),
    "instance_norm": (F.instance_norm, {"input": X4, **AFFINE}),
    "softmax": (F.softmax, {"input": X4, "dim": 1}),
    "log_softmax": (F.log_softmax, {"input": X4, "dim": -1}),
    "max_pool1d": (F.max_pool1d, {"input": X3, "kernel_size": 3}),
    "max_pool2d": (F.max_pool2d, {"input": X4, "kernel_size": 3}),
    "avg_pool1d": (F.avg_pool1d, {"input": X3, "kernel_size": 3}),
    "avg_pool2d": (F.avg_pool2d, {"input": X4, "kernel_size": 3}),
    "adaptive_avg_pool1d": (F.adaptive_avg_pool1d, {"input": X3, "output_size": 2}),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, {"input": X4, "output_size": 2}),
    "adaptive_max_pool1d": (F.adaptive_max_pool1d, {"input": X3, "output_size": 2}),
    "adaptive_max_pool2d": (F.adaptive_max_pool2d, {"input": X4, "output_size": 2}),
    "mean": (F.mean, {"input": X4, "dim": (2, 3)}),
    "sum": (F.sum, {"input": X4, "dim": (2, 3)}),
    # Of numbers that all of them take: a comparison of NaN says nothing.
    **{name: (getattr(F, name), {"input": X4.abs()}) for name in ELEMENTWISE},
}
NARROW = {torch.float32, torch.float16, torch.bfloat16}
TRANSCENDENTAL = {name for name, op in OPERATORS.items() if not op.float64}
PRODUCTS = {"conv1d", "conv2d", "linear"}
# The dtypes that an operator takes, all of its tensors being of one.
DTYPES = {name: NARROW if name in TRANSCENDENTAL else NARROW | {torch.float64} for name in CALLS}
# Those of an input beside float32 parameters.
NORMS = {"batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"}
BESIDE_FLOAT32 = {
    **DTYPES,
    **dict.fromkeys(NORMS, NARROW),
    **{name: {torch.float32} for name in PRODUCTS},
}
TENSOR_ARGUMENTS = [
    (name, argument)
    for name, (_, arguments) in CALLS.items()
    for argument, value in arguments.items()
    if isinstance(value, Tensor)
]


def call(name: str, **changed: Any) -> Tensor:
    operator, arguments = CALLS[name]
    return operator(**{**arguments, **changed})


def assert_refused(name: str, argument: str, **changed: Any) -> str:
    """The message names the argument as a word."""
    with pytest.raises(ERRORS, match=rf"\b{argument}\b") as raised:
        call(name, **changed)
    assert not isinstance(raised.value, AssertionError)
    return str(raised.value)


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
    assert_refused(name, "input", input=value)


# ---- Empty, gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_empty_batch(name: str) -> None:
    empty = CALLS[name][1]["input"][:0]
    assert call(name, input=empty).shape == (0, *call(name).shape[1:])


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


# ---- Arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "argument"), TENSOR_ARGUMENTS)
def test_numpy_arrays_are_named_and_not_printed(name: str, argument: str) -> None:
    array = CALLS[name][1][argument].numpy()
    with pytest.raises(TypeError) as raised:
        call(name, **{argument: array})
    assert str(raised.value) == (
        f"`{argument}` is numpy.ndarray; it may be a torch.Tensor (torch.from_numpy(...))"
    )


MODELS = {
    "container": lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    "code": lambda: OwnCode(),
    **{
        type(module).__name__: (lambda module=module: module)
        for module in (
            *(nn.Conv2d(6, 4, 3), nn.Linear(7, 3), nn.BatchNorm2d(6), nn.LayerNorm(7), nn.GELU()),
            *(
                nn.InstanceNorm2d(6),
                nn.RMSNorm(7),
                nn.GroupNorm(3, 6),
                nn.Softmax(1),
                nn.MaxPool2d(2),
                nn.AdaptiveAvgPool2d(1),
            ),
        )
    },
}


class OwnCode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("name", MODELS)
def test_a_patched_model_names_an_array(name: str) -> None:
    model = bninv.patch(MODELS[name]().eval())
    with pytest.raises(TypeError) as raised:
        model(X4.numpy())
    assert str(raised.value) == (
        "`input` is numpy.ndarray; it may be a torch.Tensor (torch.from_numpy(...))"
    )


@pytest.mark.parametrize(
    "value",
    [X4, X4.numpy(), X4.tolist(), [X4.numpy()] * 3, {"a": X4}, "x" * 300, list(range(60))],
    ids=lambda value: type(value).__name__,
)
def test_messages_stay_short(value: Any) -> None:
    """Whatever is given in the place of a number, a name or a size."""
    calls: list[Callable[[], object]] = [
        lambda: F.conv2d(X4, W4, stride=value),
        lambda: F.conv2d(X4, W4, padding=value),
        lambda: F.conv2d(X4, W4, precision=value),
        lambda: F.max_pool2d(X4, value),
        lambda: F.layer_norm(X4, 7, eps=value),
        lambda: F.batch_norm(X4, *[BIAS] * 2, eps=value),
        lambda: F.sum(X4, 1, dtype=value),
        lambda: F.softmax(X4, 1, dtype=value),
        lambda: F.adaptive_avg_pool2d(X4, value),
        lambda: F.softmax(X4, value),
        lambda: F.mean(X4, value),
        lambda: F.layer_norm(X4, value),
        lambda: F.group_norm(X4, value),
        lambda: F.conv2d(X4, W4, groups=value),
        lambda: F.gelu(X4, approximate=value),
        lambda: bninv.arithmetic(value),
        lambda: bninv.emulate(value).__enter__(),
        lambda: bninv.seed_everything(value),
        lambda: bninv.check(nn.Identity(), X4, value),
        lambda: bninv.check(nn.Identity(), X4, grad_mode=value),
    ]
    for index, function in enumerate(calls):
        with pytest.raises(ERRORS) as raised:
            function()
        assert len(str(raised.value)) < 400, index
        assert "array([" not in str(raised.value) and "tensor([" not in str(raised.value), index


def test_a_shown_value_is_short() -> None:
    for value in ("x" * 9999, list(range(9999)), dict.fromkeys(range(99), X4), [[X4.tolist()]] * 9):
        assert len(shown(value)) < 140
    assert shown(None) == "None"
    assert shown("nhwc") == "'nhwc' (str)"
    assert shown(X4.numpy()) == "numpy.ndarray of shape (2, 6, 5, 7)"
    assert shown([X4]) == "[<torch.Tensor>] (list)"
