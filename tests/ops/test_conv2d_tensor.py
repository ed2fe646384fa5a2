"""conv2d, linear and their fused forms under R9, on the CPU: both classes of tensor cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bninv.functional as F
from bninv._shown import shown
from tests.support import reference_tensor
from tests.support import reference_tensor_products as reference
from tests.support.properties import (
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    normal,
    panel,
    positive,
    with_specials,
)
from tests.support.tensor_cases import KINDS, Draw

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32}
CLASSES = ("A", "H")
BOTH = [(dtype, name) for dtype in DTYPES.values() for name in CLASSES]


def precision(name: str) -> Any:
    return f"tensor-{name}"


class TensorTests(ContractTests):
    def test_equals_reference(self, case: Case) -> None:
        for x in (case.input, with_specials(case.input, case, share=0.002)):
            assert case.reference is not None
            expected = case.reference(x)
            assert_equals_at_each_level(lambda x=x: case.run(x), expected)

    # The test above has them; of as many as this one has hardly anything but NaN is left.
    test_special_values_equal_reference = None  # type: ignore[assignment]

    def test_is_close_to_stock(self, case: Case) -> None:
        actual, stock = case.run(case.input), case.stock(case.input)
        bound = 4e-2 if case.dtype == torch.bfloat16 else 5e-3
        torch.testing.assert_close(actual, stock, rtol=bound, atol=bound)


def conv2d_case(
    label: str, shape, weight_shape, name: str, dtype: torch.dtype, bias: bool = True, **options
) -> Case:
    label = f"{label}, {name}"
    weight = normal(f"{label} weight", *weight_shape, dtype=dtype) / 4
    bias_ = normal(f"{label} bias", weight_shape[0], dtype=dtype) if bias else None
    return Case(
        label,
        shape,
        run=lambda x: F.conv2d(x, weight, bias_, **options, precision=precision(name)),
        stock=lambda x: torch.nn.functional.conv2d(x, weight, bias_, **options),
        reference=lambda x: reference.conv2d(x, weight, bias_, **options, name=name),  # type: ignore
        dtype=dtype,
    )


def linear_case(
    label: str, shape, out_features: int, name: str, dtype: torch.dtype, bias: bool = True
) -> Case:
    label = f"{label}, {name}"
    weight = normal(f"{label} weight", out_features, shape[-1], dtype=dtype) / 4
    bias_ = normal(f"{label} bias", out_features, dtype=dtype) if bias else None
    return Case(
        label,
        shape,
        run=lambda x: F.linear(x, weight, bias_, precision=precision(name)),
        stock=lambda x: torch.nn.functional.linear(x, weight, bias_),
        reference=lambda x: reference.linear(x, weight, bias_, name=name),  # type: ignore
        dtype=dtype,
    )


# Shapes that fill no block, vector or segment; each in two of the six kinds of arithmetic.
CONV2D: list[tuple[Any, ...]] = [
    ("stem", (2, 3, 9, 7), (21, 3, 5, 5), {"stride": 2, "padding": 2}),
    ("3x3, 12 channels", (2, 12, 4, 5), (19, 12, 3, 3), {"padding": 1}),
    ("pointwise, 141 channels", (3, 141, 2, 3), (35, 141, 1, 1), {}),
    ("2 groups of 33", (2, 66, 3, 2), (14, 33, 2, 2), {"padding": 1, "groups": 2}),
    ("dilated", (2, 7, 6, 7), (3, 7, 3, 2), {"dilation": (2, 1), "stride": (1, 2), "padding": 1}),
    ("one channel", (3, 1, 4, 3), (17, 1, 3, 3), {"padding": 2}),
]


class TestConv2d(TensorTests):
    CASES = [
        conv2d_case(label, shape, weight, name, dtype, bias=i % 2 == 0, **options)
        for i, (label, shape, weight, options) in enumerate(CONV2D)
        for dtype, name in (BOTH[i % 6], BOTH[(i + 3) % 6])
    ]


class TestLinear(TensorTests):
    CASES = [
        linear_case(label, shape, features, name, dtype, bias=i % 2 == 1)
        for i, (label, shape, features) in enumerate(
            [("1 to 1", (3, 1), 1), ("37 to 5", (2, 3, 37), 5), ("261 to 50", (7, 261), 50)]
        )
        for dtype, name in (BOTH[(2 * i) % 6], BOTH[(2 * i + 3) % 6])
    ]


# ---- Values --------------------------------------------------------------------------------------


def tensor_of(format: str, bits: np.ndarray) -> Tensor:
    if format == "tf32":
        return torch.from_numpy(bits.astype(np.uint32).view(np.float32))
    return torch.from_numpy(bits.astype(np.uint16).view(np.int16)).view(DTYPES[format])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("format", DTYPES)
def test_hostile_operands(format: str, kind: Draw) -> None:
    """Each output from operands drawn for each other, by a convolution of as many groups, and from
    operands of different draws; what the first blocks leave is the accumulator of later ones."""
    draw = np.random.default_rng(list(DTYPES).index(format) * 100 + KINDS.index(kind))
    parts = [kind(format, draw, reference_tensor.GROUP[format])[:2] for _ in range(5)]
    count, filters = 150, 3
    a, b = (np.concatenate([part[i][:count] for part in parts], axis=-1) for i in (0, 1))
    x, w = tensor_of(format, a), tensor_of(format, b)
    grouped_x = x.reshape(1, -1, 1, 1)
    scales = torch.tensor([1.0, -1.0, 0.5]).to(x.dtype)[:, None]
    grouped_w = (w[:, None] * scales).reshape(count * filters, -1, 1, 1)
    for name in CLASSES:
        assert_equals_at_each_level(
            lambda name=name: F.conv2d(
                grouped_x, grouped_w, groups=count, precision=precision(name)
            ),
            reference.conv2d(grouped_x, grouped_w, groups=count, name=name),
            f"groups, class {name}",
        )
        assert_equals_at_each_level(
            lambda name=name: F.linear(x[:21], w[:37], precision=precision(name)),
            reference.linear(x[:21], w[:37], name=name),
            f"linear, class {name}",
        )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_special_weights(dtype: torch.dtype) -> None:
    """On padding, too, an infinite weight makes a NaN, as +0 times infinity does."""
    weight = with_specials(normal("w", 40, 12, 3, 3, dtype=dtype), share=0.002)
    weight[7] *= 1e-30  # a filter that training left for dead
    x = with_specials(normal("x", 2, 12, 4, 3, dtype=dtype), share=0.002)
    for name in CLASSES:
        expected = reference.conv2d(x, weight, padding=1, name=name)
        assert 0 < expected.isnan().sum() < expected.numel()
        for w in (weight, panel(weight)):
            assert_equals_at_each_level(
                lambda w=w, name=name: F.conv2d(x, w, padding=1, precision=precision(name)),
                expected,
            )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_sum_of_33_bits(dtype: torch.dtype) -> None:
    """16 products of nearly 4 units and an accumulator beside them do not fit 32 bits."""
    two = torch.tensor(2.0, dtype=dtype)
    if dtype == torch.float32:  # of TF32's step
        most = (two.view(torch.int32) - 0x2000).view(dtype)
    else:
        most = (two.view(torch.int16) - 1).view(dtype)
    x, weight = most.repeat(3, 128), most.repeat(2, 128)
    weight[1] *= -1
    x[1, :16] /= 64  # a sum of nearly 1, whose exponent is below that of the later products
    x[2, :3] *= 4
    for name in CLASSES:
        assert_equals_at_each_level(
            lambda name=name: F.linear(x, weight, precision=precision(name)),
            reference.linear(x, weight, name=name),
        )


def test_tf32_operands() -> None:
    """10 fraction bits, half away from zero; a NaN of low bits alone stays one."""
    step = 2.0**-10
    values = torch.tensor([1 + step / 2, 1 + step / 2 - 2**-23, -1 - step / 2, 1 + 1.5 * step])
    expected = torch.tensor([1 + step, 1, -1 - step, 1 + 2 * step])
    nan = torch.tensor([0x7F800001], dtype=torch.int32).view(torch.float32)
    greatest = torch.tensor([torch.finfo(torch.float32).max])
    x = torch.cat([values, nan, greatest]).view(-1, 1)
    result = F.linear(x, torch.ones(1, 1), precision="tensor-H").view(-1)
    assert_bits(result[:4], expected)
    assert result[4].isnan() and result[5] == torch.inf  # rounded up, out of range
    assert_bits(F.linear(x[:4], torch.ones(1, 1)).view(-1), values)


@pytest.mark.parametrize("word", ["tensor-A", "tensor-H"])
def test_no_terms(word: Any) -> None:
    bias = torch.tensor([1.0, -0.0, 0.0, -2.0])
    for b in (None, bias):
        expected = torch.zeros(3, 4) if b is None else torch.zeros(3, 4) + b
        assert_bits(F.linear(torch.ones(3, 0), torch.ones(4, 0), b, precision=word), expected)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_the_classes_differ(dtype: torch.dtype) -> None:
    # Many: a result rounded to a half type seldom shows it.
    x, weight = normal("x", 512, 256, dtype=dtype), normal("w", 1024, 256, dtype=dtype)
    results = [F.linear(x, weight, precision=word) for word in ("ieee", "tensor-A", "tensor-H")]
    share = [(results[i] != results[j]).float().mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    least = 0.05 if dtype == torch.float32 else 5e-6
    assert all(s > least for s in share), share


# ---- What R9 does not reach ----------------------------------------------------------------------


@pytest.mark.parametrize("word", ["tensor-A", "tensor-H"])
def test_other_layers_run_r1(word: Any) -> None:
    x = normal("x", 2, 62, 5, 4)
    for groups in (2, 31, 62):
        weight = normal("w", 62, 62 // groups, 3, 3)
        expected = F.conv2d(x, weight, groups=groups)
        assert_bits(F.conv2d(x, weight, groups=groups, precision=word), expected, f"{groups}")
    y, w = normal("x", 3, 40, dtype=torch.float64), normal("w", 5, 40, dtype=torch.float64)
    assert_bits(F.linear(y, w, precision=word), F.linear(y, w))
    # One more channel a group is within its reach.
    x, weight = normal("x", 2, 64, 5, 4), normal("w", 64, 32, 3, 3)
    assert not torch.equal(
        F.conv2d(x, weight, groups=2, precision=word), F.conv2d(x, weight, groups=2)
    )


# ---- What follows a product, and what is made of one ---------------------------------------------


@pytest.mark.parametrize(("dtype", "name"), BOTH, ids=str)
def test_fused_is_unfused(dtype: torch.dtype, name: str) -> None:
    word = precision(name)
    x, weight = normal("x", 2, 20, 5, 6, dtype=dtype), normal("w", 33, 20, 3, 3, dtype=dtype)
    bias, residual = normal("b", 33, dtype=dtype), normal("r", 2, 33, 5, 6, dtype=dtype)
    mean, var = normal("m", 33).to(dtype), positive("v", 33).to(dtype)
    for last in (False, True):
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, weight, bias, padding=1, precision=word)
        y = F.batch_norm(y, mean, var, None, bias)
        y = F.silu(y + residual)
        fused = F.conv2d_fused(
            x,
            weight,
            bias,
            padding=1,
            running_mean=mean,
            running_var=var,
            norm_bias=bias,
            residual=residual,
            activation="silu",
            precision=word,
        )
        assert_bits(fused, y)
    rows, w, r = (
        normal("x", 7, 150, dtype=dtype),
        normal("w", 33, 150, dtype=dtype),
        normal("r", 7, 33, dtype=dtype),
    )
    y = F.relu6(F.linear(rows, w, bias, precision=word) + r)
    fused = F.linear_fused(rows, w, bias, residual=r, activation="relu6", precision=word)
    assert_bits(fused, y)


def test_conv1d_matmul_and_samples() -> None:
    x, weight = normal("x", 2, 40, 9), normal("w", 6, 40, 3)
    wide = F.conv2d(x[:, :, None], weight[:, :, None], padding=(0, 1), precision="tensor-A")
    assert_bits(F.conv1d(x, weight, padding=1, precision="tensor-A"), wide[:, :, 0])
    alone = F.conv2d(x[0, :, None], weight[:, :, None], padding=(0, 1), precision="tensor-A")
    assert_bits(alone, wide[0])
    a, b = normal("a", 3, 4, 70), normal("b", 3, 70, 5)
    for left, right in ((a, b), (a, b[0]), (a, b[0, :, 0]), (a[0, 0], b)):
        got = F.matmul(left, right, precision="tensor-H")
        if right.dim() == 3:
            each = [
                F.linear(r, m.t(), precision="tensor-H")
                for r, m in zip(
                    left.expand(3, *left.shape[-1:]) if left.dim() == 1 else left,
                    right,
                    strict=True,
                )
            ]
            assert_bits(got, torch.stack(each))
        else:
            w = right.t() if right.dim() == 2 else right[None]
            assert_bits(got, F.linear(left, w, precision="tensor-H").view(got.shape))
        assert not torch.equal(got, F.matmul(left, right))


# ---- Accuracy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_segments_against_one_chain(name: str) -> None:
    """4,608 positive terms: a chain that cuts at every step drifts, segments of 128 do not."""
    a, b = positive("a", 12, 4608).bfloat16(), positive("b", 4608).bfloat16()[None]
    exact = (a.double() * b.double()).sum(-1).numpy()
    rule = reference_tensor.CLASSES[name]
    operands = reference.operands(a), reference.operands(b)

    def error(total: np.ndarray) -> float:
        return float(np.abs(total / exact - 1).max())

    segments = error(reference.dot(*operands, "bf16", rule))
    chain = error(reference.dot(*operands, "bf16", rule, segment=4608))
    assert segments < 5e-7 and chain > 5e-6 and chain > 20 * segments
    halves = F.linear(a, b, precision=precision(name)).double().view(-1).numpy()
    assert error(halves) <= 2.0**-8  # that of rounding to bfloat16


@pytest.mark.parametrize("name", CLASSES)
def test_error_of_tf32(name: str) -> None:
    x, weight = normal("x", 64, 2304), normal("w", 64, 2304)
    exact = x.double() @ weight.double().t()
    result = F.linear(x, weight, precision=precision(name)).double()
    relative = ((result - exact).abs().max() / exact.abs().max()).item()
    assert 1e-5 < relative < 1e-3


# ---- Settings of PyTorch -------------------------------------------------------------------------


def test_pytorchs_tf32_settings_change_nothing() -> None:
    x, weight = normal("x", 2, 40, 5, 4), normal("w", 9, 40, 3, 3)
    words = ("ieee", "tensor-A", "tensor-H")

    def run() -> list[Tensor]:
        return [F.conv2d(x, weight, precision=word) for word in words]

    expected = run()
    former = torch.get_float32_matmul_precision()
    backends: list[tuple[Any, bool]] = [
        (backend, backend.allow_tf32)
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn)
    ]
    try:
        for setting in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(setting)
            for allow in (False, True):
                for backend, _ in backends:
                    backend.allow_tf32 = allow
                for word, got, want in zip(words, run(), expected, strict=True):
                    assert_bits(got, want, f"{word}, {setting}, allow_tf32={allow}")
    finally:
        torch.set_float32_matmul_precision(former)
        for backend, allow in backends:
            backend.allow_tf32 = allow


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    x, weight = normal("x", 2, 40), normal("w", 9, 40)
    expected = F.linear(x.to(dtype), weight.to(dtype), precision="tensor-H")
    with torch.autocast("cpu", dtype):
        assert_bits(F.linear(x, weight, precision="tensor-H"), expected)
        fused = F.linear_fused(x, weight, activation="relu", precision="tensor-H")
    assert_bits(fused, F.relu(expected))


# ---- Errors --------------------------------------------------------------------------------------

X4, W4, X2, W2 = (
    normal("x", 1, 4, 3, 3),
    normal("w", 2, 4, 1, 1),
    normal("x", 3, 5),
    normal("w", 2, 5),
)
CALLS: dict[str, Callable[..., Tensor]] = {
    "conv2d": lambda **k: F.conv2d(X4, W4, **k),
    "conv2d of a sample": lambda **k: F.conv2d(X4[0], W4, **k),
    "conv1d": lambda **k: F.conv1d(X4[:, :, 0], W4[..., 0], **k),
    "conv2d_fused": lambda **k: F.conv2d_fused(X4, W4, **k),
    "linear": lambda **k: F.linear(X2, W2, **k),
    "linear_fused": lambda **k: F.linear_fused(X2, W2, **k),
    "matmul": lambda **k: F.matmul(X2, W2.t(), **k),
    "matmul of a batch": lambda **k: F.matmul(X2[None], W2.t()[None], **k),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_errors(call: Callable[..., Tensor]) -> None:
    for wrong in ("tf32", "tensor-B", "", None, torch.float16):
        with pytest.raises(ValueError, match=f"`precision` is {re.escape(shown(wrong))}; it may"):
            call(precision=wrong)
    with pytest.raises(RuntimeError, match="`precision` is 'tensor'.*on the CPU.*bninv.emulate"):
        call(precision="tensor")


def test_the_operators_know_the_words_too() -> None:
    with pytest.raises(RuntimeError, match="`precision` is 'tf32'; it may be 'ieee', 'tensor'"):
        torch.ops.bninv.linear(X2, W2, None, "tf32")
