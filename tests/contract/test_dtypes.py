"""float16, bfloat16 and float64: widened exactly, rounded once, at every instruction-set level."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import bninv
import bninv.functional as F
from bninv import _arguments
from bninv.modules.base import Patched
from bninv.operators import unary
from tests.support import reference_dtypes as reference
from tests.support.properties import (
    any_bits,
    assert_bits,
    assert_equals_at_each_level,
    batch_norm_parameters,
    layouts,
    normal,
)

EPILOGUES = _arguments.ACTIVATIONS
ELEMENTWISE = [op.name for op in unary.OPERATORS]
SHAPES = [(3, 1, 1, 1), (5, 19), (3, 7, 11), (3, 17, 5, 7), (2, 64, 3, 3), (2, 3, 4, 5, 3)]

narrow = pytest.mark.parametrize("dtype", reference.NARROW, ids=str)
floating = pytest.mark.parametrize("dtype", reference.FLOATING, ids=str)


def all_patterns(dtype: torch.dtype) -> Tensor:
    return torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)


# ---- Elementwise operators -----------------------------------------------------------------------


@narrow
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_on_all_patterns(name: str, dtype: torch.dtype) -> None:
    """All 65,536 of them: their values are the binary32 function's, rounded once."""
    x = all_patterns(dtype)
    expected = reference.activated(name, x)
    assert_equals_at_each_level(lambda: getattr(F, name)(x), expected)
    assert_equals_at_each_level(lambda: getattr(F, name)(x[1:]), expected[1:], "unaligned")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_in_float64(name: str) -> None:
    x = any_bits("x", (999,), torch.float64)
    x[:500] = normal("y", 500).double() * 4
    assert_equals_at_each_level(lambda: getattr(F, name)(x), reference.activated(name, x))


# ---- batch_norm ----------------------------------------------------------------------------------


@narrow
def test_batch_norm_of_all_patterns(dtype: torch.dtype) -> None:
    x = all_patterns(dtype).view(1024, 64)
    for parameter_dtype in (dtype, torch.float32):
        values = batch_norm_parameters(64, parameter_dtype)
        assert_equals_at_each_level(
            lambda v=values: F.batch_norm(x, *v), reference.batch_norm(x, *values)
        )


@floating
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = batch_norm_parameters(shape[1], dtype)
    for x in (normal("x", *shape, dtype=dtype), any_bits("x", shape, dtype)):
        expected = reference.batch_norm(x, *values)
        for name, view in layouts(x):
            assert_equals_at_each_level(lambda v=view: F.batch_norm(v, *values), expected, name)


@floating
@pytest.mark.parametrize("missing", ["weight", "bias", "both"])
def test_batch_norm_not_affine(dtype: torch.dtype, missing: str) -> None:
    mean, var, weight, bias = batch_norm_parameters(5, dtype)
    x = normal("x", 2, 5, 6, 7, dtype=dtype)
    given = (None if missing != "bias" else weight, None if missing != "weight" else bias)
    expected = reference.batch_norm(x, mean, var, *given)
    assert_equals_at_each_level(lambda: F.batch_norm(x, mean, var, *given), expected)


def test_eps_is_kept_in_float64() -> None:
    x = normal("x", 4, 9).double()
    values = batch_norm_parameters(9, torch.float64)
    for eps in (1e-5, 1e-3, 1e-12, 0.1):
        assert_bits(F.batch_norm(x, *values, eps=eps), reference.batch_norm(x, *values, eps))


@floating
@pytest.mark.parametrize("activation", EPILOGUES)
@pytest.mark.parametrize("add", [False, True], ids=["", "add"])
def test_epilogue(dtype: torch.dtype, activation: Any, add: bool) -> None:
    """The fused chain has the reference's bits, and those of the operators one after another."""
    for shape in SHAPES[1:5]:
        values = batch_norm_parameters(shape[1], dtype)
        x = normal("x", *shape, dtype=dtype)
        residual = normal("residual", *shape, dtype=dtype) if add else None
        options: Any = {"residual": residual, "activation": activation, "negative_slope": 0.3}
        expected = reference.batch_norm(x, *values, **options)
        separate = F.batch_norm(x, *values)
        if residual is not None:
            separate = separate + residual
        if activation == "leaky_relu":
            separate = F.leaky_relu(separate, 0.3)
        elif activation == "gelu_tanh":
            separate = F.gelu(separate, "tanh")
        elif activation != "none":
            separate = getattr(F, activation)(separate)
        assert_bits(separate, expected, f"{shape}, unfused")
        for name, view in list(layouts(x))[:6]:
            assert_equals_at_each_level(
                lambda v=view: F.batch_norm(v, *values, **options), expected, f"{shape}, {name}"
            )
        if residual is not None:
            for name, view in layouts(residual):
                options["residual"] = view
                assert_bits(F.batch_norm(x, *values, **options), expected, f"residual {name}")


def test_rounding_at_boundaries_shows() -> None:
    """Where the chain would give other bits without them, so that the tests above can fail."""
    x, residual = normal("x", 64, 64).half(), normal("residual", 64, 64).half()
    values = [v.float() for v in batch_norm_parameters(64, torch.float16)]
    fused = F.batch_norm(x, *values, residual=residual)
    once = (F.batch_norm(x.float(), *values) + residual.float()).half()
    assert (fused != once).any()


# ---- Products and sums: one rounding, after the bias ---------------------------------------------

# A half and a bfloat16 number with the greatest exponent, and half of its last place.
GREATEST = {
    torch.float16: (65504.0, 16.0),
    torch.bfloat16: (torch.finfo(torch.bfloat16).max, 2**119),
}


def by_linear(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    biases = None if bias is None else bias.expand(19)
    return F.linear(x.expand(rows, -1), weight.expand(19, -1), biases)


def by_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
    """19 outputs, in one group or in groups of one."""
    count, terms = 19, len(x)
    biases = None if bias is None else bias.expand(count)
    if kind == "depthwise":
        image, taps = x.view(1, 1, terms, 1), weight.view(1, 1, terms, 1)
        return F.conv2d(
            image.expand(1, count, terms, 1), taps.expand(count, 1, terms, 1), biases, groups=count
        )
    pixel, filters = x.view(1, -1, 1, 1), weight.view(1, -1, 1, 1).expand(count, -1, 1, 1)
    if kind == "grouped":
        return F.conv2d(torch.cat([pixel] * count, 1), filters, biases, groups=count)
    return F.conv2d(pixel.contiguous(memory_format=getattr(torch, kind)), filters, biases)


# sum(x * weight) + bias by each kernel; x and weight have one dimension, bias has one element.
PRODUCTS = {
    "linear": partial(by_linear, rows=1),
    "linear, 40 rows": partial(by_linear, rows=40),
    "conv2d": partial(by_conv2d, kind="contiguous_format"),
    "channels_last": partial(by_conv2d, kind="channels_last"),
    "grouped": partial(by_conv2d, kind="grouped"),
    "depthwise": partial(by_conv2d, kind="depthwise"),
}
by_each_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS.keys())


def assert_all(product: Any, x: Tensor, weight: Tensor, bias: Tensor | None, value: float) -> None:
    shape = product(x, weight, bias).shape
    expected = torch.full(shape, value, dtype=x.dtype)
    assert_equals_at_each_level(lambda: product(x, weight, bias), expected)


@narrow
@by_each_product
def test_overflow_when_stored(dtype: torch.dtype, product: Any) -> None:
    """Up to half of the last place above the greatest number is that number; a tie is infinity."""
    most, half_step = GREATEST[dtype]
    for sign in (1.0, -1.0):
        x = torch.tensor([sign * most, sign], dtype=dtype)
        for share, expected in ((0, most), (0.99, most), (1, float("inf")), (1.9, float("inf"))):
            weight = torch.tensor([1.0, half_step * share]).to(dtype)
            for bias in (None, torch.zeros(1, dtype=dtype)):
                assert_all(product, x, weight, bias, sign * expected)


@narrow
@by_each_product
def test_the_bias_is_added_before_the_rounding(dtype: torch.dtype, product: Any) -> None:
    """The total alone would round to 1, and 1 plus the bias to 1 once more."""
    step = torch.finfo(dtype).eps
    x = torch.tensor([1.0, step], dtype=dtype)
    weight = torch.tensor([1.0, 0.375], dtype=dtype)
    bias = torch.tensor([step * 0.375], dtype=dtype)
    assert_all(product, x, weight, bias, 1 + step)


@by_each_product
def test_float64_has_its_own_precision_and_the_same_segments(product: Any) -> None:
    """What binary32 would drop is kept, and chains end after 128 terms as elsewhere."""
    x, weight = torch.ones(3).double(), torch.tensor([1.0, 2.0**-40, 2.0**-60]).double()
    assert_all(product, x, weight, None, 1 + 2.0**-40)
    x, weight = torch.ones(129).double(), torch.full((129,), 2.0**-54).double()
    weight[128] = 1  # after 128 small terms in a chain of their own
    assert_all(product, x, weight, None, 1 + 2.0**-47)
    weight[0], weight[128] = 1, 2.0**-54
    assert_all(product, x, weight, None, 1.0)
    # The exact product of both has 106 bits; without fma it would round to 1.
    x = torch.tensor([1, 1 + 2.0**-30], dtype=torch.float64)
    weight = torch.tensor([-1, 1 - 2.0**-30], dtype=torch.float64)
    assert_all(product, x, weight, None, -(2.0**-60))


@narrow
def test_mean_divides_before_the_rounding(dtype: torch.dtype) -> None:
    """The sum is beyond the greatest number, its mean is not."""
    most = GREATEST[dtype][0] if dtype == torch.float16 else 1e38
    x = torch.full((2, 19, 3, 3), most, dtype=dtype) / (1 if dtype == torch.float16 else 4)
    expected = x[:, :, 0, 0]
    for result in (F.mean(x, (2, 3)), F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]):
        assert_bits(result, expected)
    assert_bits(F.avg_pool2d(x, 3)[:, :, 0, 0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": torch.zeros(2, 5, 3, 4)}, "`residual` has shape .*it may be `input`'s"),
        ({"residual": torch.zeros(2, 5, 3, 3).half()}, "`residual` has dtype torch.float16"),
        ({"residual": torch.zeros(2, 5, 3, 3, device="meta")}, "`residual` is on"),
        ({"activation": "mish"}, "`activation` is 'mish'; it may be 'none', 'relu'"),
        ({"activation": "leaky_relu", "negative_slope": "x"}, "`negative_slope` is 'x'"),
    ],
)
def test_bad_epilogue(options: dict[str, Any], message: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=message):
        F.batch_norm(torch.zeros(2, 5, 3, 3), *batch_norm_parameters(5, torch.float32), **options)


# ---- Models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_patch_takes_what_has_kernels(dtype: torch.dtype) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.SiLU()
    )
    model.eval().to(dtype)
    bninv.patch(model, strict=True)
    assert all(isinstance(module, Patched) for module in model)
    x = normal("x", 2, 8, 5, 5, dtype=dtype)
    norm = model[1]
    expected = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    with torch.no_grad():
        assert_bits(norm(x), expected)


@narrow
def test_float32_batch_norm_in_a_narrower_model(dtype: torch.dtype) -> None:
    norm = torch.nn.BatchNorm2d(6).eval()
    norm.running_mean.normal_()
    bninv.patch(norm)
    x = normal("x", 2, 6, 5, 5, dtype=dtype)
    with torch.no_grad():
        result = norm(x)
    values = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    assert_bits(result, reference.batch_norm(x, *(v.detach() for v in values)))
