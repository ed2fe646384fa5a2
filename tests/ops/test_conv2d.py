"""conv1d and conv2d: R1."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support import reference, reference_dtypes
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    nan_filled,
    normal,
    panel,
    with_specials,
)

# Stock PyTorch, the yardstick, says that it copies; nothing here does.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def numpy_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, **options) -> Tensor:
    return reference_dtypes.conv2d(x, weight, bias, **options)


def conv2d_case(
    label: str, shape, weight_shape, bias: bool = True, dtype=torch.float32, **options
) -> Case:
    weight = normal(f"{label} weight", *weight_shape, dtype=dtype)
    bias_ = normal(f"{label} bias", weight_shape[0], dtype=dtype) if bias else None
    arrays = [None if v is None else reference_dtypes.widened(v, dtype) for v in (weight, bias_)]
    return Case(
        label,
        shape,
        run=lambda x: F.conv2d(x, weight, bias_, **options),
        stock=lambda x: torch.nn.functional.conv2d(x, weight, bias_, **options),
        reference=lambda x: reference.conv2d(x, *arrays, **options),
        dtype=dtype,
    )


CONV2D = [
    conv2d_case("one pixel, one channel", (3, 1, 1, 1), (1, 1, 1, 1)),
    conv2d_case("pointwise", (3, 5, 4, 6), (7, 5, 1, 1)),
    conv2d_case("pointwise, stride 2", (3, 19, 7, 5), (35, 19, 1, 1), bias=False, stride=2),
    conv2d_case("pointwise, padded", (2, 3, 2, 3), (4, 3, 1, 1), padding=(1, 2)),
    conv2d_case("3x3", (3, 3, 9, 7), (5, 3, 3, 3), padding=1),
    conv2d_case("3x3, no bias", (2, 17, 6, 11), (33, 17, 3, 3), bias=False, padding=1),
    *(
        conv2d_case(f"{k} terms", (2, k, 3, 4), (o, k, 1, 1), bias=k % 2 == 0)
        for k, o in ((127, 9), (128, 16), (129, 31), (256, 6), (257, 65))
    ),
    conv2d_case("1161 terms", (2, 129, 4, 3), (15, 129, 3, 3), padding=1),
    conv2d_case("stem", (2, 3, 33, 29), (64, 3, 7, 7), bias=False, stride=2, padding=3),
    conv2d_case("many pixels", (2, 16, 24, 29), (48, 16, 3, 3), padding=1),
    conv2d_case("stride above kernel", (2, 4, 11, 13), (6, 4, 2, 2), stride=(3, 5)),
    conv2d_case(
        "dilation", (2, 3, 12, 10), (4, 3, 3, 2), dilation=(2, 3), padding=(2, 1), stride=(1, 2)
    ),
    conv2d_case("kernel above input", (2, 3, 2, 3), (4, 3, 5, 7), padding=(2, 3)),
    conv2d_case("padding above kernel", (2, 2, 3, 2), (3, 2, 2, 2), padding=4),
    conv2d_case("whole input", (3, 6, 5, 4), (10, 6, 5, 4)),
    conv2d_case("one row", (2, 3, 1, 40), (5, 3, 1, 7), padding=(0, 3)),
    conv2d_case("one column", (2, 3, 37, 1), (5, 3, 4, 1), stride=(2, 1)),
    conv2d_case("same, even kernel", (2, 3, 7, 8), (4, 3, 2, 4), padding="same"),
    conv2d_case("same, dilated", (2, 3, 7, 8), (4, 3, 3, 2), padding="same", dilation=3),
    conv2d_case("valid", (2, 3, 7, 8), (4, 3, 3, 2), padding="valid", stride=2),
    conv2d_case("2 groups", (2, 6, 5, 7), (8, 3, 3, 3), padding=1, groups=2),
    conv2d_case("32 groups", (2, 128, 5, 5), (128, 4, 3, 3), padding=1, groups=32, bias=False),
    conv2d_case("16 groups of 8", (2, 128, 7, 6), (128, 8, 3, 3), stride=2, padding=1, groups=16),
    conv2d_case(
        "5 groups of 2 to 3", (2, 10, 6, 7), (15, 2, 3, 2), padding=1, dilation=2, groups=5
    ),
    conv2d_case("4 groups of 24 to 20", (2, 96, 5, 6), (80, 24, 3, 3), padding=1, groups=4),
    conv2d_case("3 groups of 129", (2, 387, 2, 3), (21, 129, 1, 1), groups=3),
    conv2d_case("depthwise", (2, 19, 8, 7), (19, 1, 3, 3), padding=1, groups=19),
    conv2d_case("depthwise, one channel", (2, 1, 8, 7), (1, 1, 3, 3), padding=1),
    conv2d_case(
        "depthwise, stride 2", (2, 35, 9, 12), (35, 1, 5, 5), stride=2, padding=2, groups=35
    ),
    conv2d_case(
        "depthwise, multiplier 2", (2, 7, 6, 5), (14, 1, 3, 2), dilation=2, padding=2, groups=7
    ),
    conv2d_case("depthwise, multiplier 5", (2, 3, 6, 7), (15, 1, 3, 3), bias=False, groups=3),
    conv2d_case("depthwise, 169 terms", (2, 5, 15, 14), (5, 1, 13, 13), padding=6, groups=5),
    conv2d_case("depthwise, pointwise", (2, 21, 3, 3), (21, 1, 1, 1), groups=21, bias=False),
]


class TestConv2d(ContractTests):
    CASES = CONV2D


class TestConv2dDtypes(ContractTests):
    """Each kernel, with channels and pixels that fill no vector and no tile, and a long sum."""

    CASES = [
        conv2d_case(*case, dtype=dtype, **options)
        for dtype in reference_dtypes.OTHERS
        for *case, options in (
            ("pointwise", (2, 131, 3, 4), (17, 131, 1, 1), {}),
            ("3x3", (2, 5, 6, 7), (35, 5, 3, 3), {"padding": 1}),
            ("stem, no bias", (1, 3, 11, 9), (9, 3, 7, 7), False, {"stride": 2, "padding": 3}),
            ("2 groups", (2, 6, 4, 5), (130, 3, 3, 2), {"padding": 1, "groups": 2}),
            ("16 groups of 8", (1, 128, 3, 4), (128, 8, 3, 3), {"padding": 1, "groups": 16}),
            ("2 groups of 20 to 32", (1, 40, 4, 3), (64, 20, 3, 3), {"groups": 2, "padding": 1}),
            ("depthwise", (2, 19, 5, 6), (19, 1, 3, 3), {"padding": 1, "groups": 19}),
            ("depthwise, 7", (2, 7, 5, 6), (7, 1, 3, 3), False, {"padding": 2, "groups": 7}),
            ("depthwise, multiplier 2", (2, 7, 5, 4), (14, 1, 3, 2), {"groups": 7}),
        )
    ]


def conv1d_case(label: str, shape, weight_shape, **options) -> Case:
    weight = normal(f"{label} weight", *weight_shape)
    bias = normal(f"{label} bias", weight_shape[0])

    def by_conv2d(x: np.ndarray) -> np.ndarray:
        wide = {k: (0 if k == "padding" else 1, v) for k, v in options.items()}
        if isinstance(options.get("padding"), str):
            wide["padding"] = options["padding"]
        wide["groups"] = options.get("groups", 1)
        w = weight.numpy()[:, :, None]
        return reference.conv2d(x[:, :, None], w, bias.numpy(), **wide)[:, :, 0]

    return Case(
        label,
        shape,
        run=lambda x: F.conv1d(x, weight, bias, **options),
        stock=lambda x: torch.nn.functional.conv1d(x, weight, bias, **options),
        reference=by_conv2d,
    )


class TestConv1d(ContractTests):
    CASES = [
        conv1d_case("one element", (3, 1, 1), (1, 1, 1)),
        conv1d_case("pointwise", (3, 129, 7), (17, 129, 1)),
        conv1d_case("padded", (2, 5, 13), (6, 5, 4), padding=3, stride=2),
        conv1d_case("dilated", (2, 5, 13), (6, 5, 3), dilation=4),
        conv1d_case("same", (2, 5, 13), (6, 5, 4), padding="same", dilation=3),
        conv1d_case("valid", (2, 5, 13), (6, 5, 4), padding="valid"),
        conv1d_case("groups", (2, 6, 13), (9, 2, 3), padding=1, groups=3),
        conv1d_case("depthwise", (2, 11, 23), (11, 1, 5), padding=2, groups=11),
    ]


# ---- Weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_subnormal_and_special_weights(seed: int) -> None:
    """A weight is as free as an input to be infinite, subnormal or NaN."""
    shape = (11, 6, 3, 2)
    x = with_specials(normal(seed, 2, 6, 5, 4), seed, share=0.01)
    for weight in (
        with_specials(normal("w", *shape), seed, share=0.02),
        normal("w", *shape) * 1e-39,
    ):
        for options in ({"padding": 1}, {"padding": (0, 2), "stride": 2}):
            expected = numpy_conv2d(x, weight, None, **options)
            for name, w in (("contiguous", weight), ("panel", panel(weight))):
                assert_equals_at_each_level(
                    lambda w=w, o=options: F.conv2d(x, w, **o), expected, name
                )


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((7, 5, 1, 1), 1),
        ((33, 3, 3, 2), 1),
        ((6, 2, 3, 3), 3),
        ((8, 1, 5, 3), 8),
        ((8, 1, 3, 3), 4),
    ],
)
def test_weight_layouts(shape: tuple[int, ...], groups: int) -> None:
    weight = normal("layouts", *shape)
    x = normal("input", 2, shape[1] * groups, 6, 7)
    expected = numpy_conv2d(x, weight, None, padding=1, groups=groups)
    for input_name, x_view in list(layouts(x))[:2]:
        for name, view in (*layouts(weight), ("panel", panel(weight))):
            values = view.clone()
            assert_equals_at_each_level(
                lambda x=x_view, w=view: F.conv2d(x, w, padding=1, groups=groups),
                expected,
                f"input {input_name}, weight {name}",
            )
            assert_bits(view, values, "the weight was written to")


def test_weight_is_read_at_each_call() -> None:
    """No result may stem from an earlier value of the same tensor, however it was changed."""
    weight = panel(normal("w", 5, 3, 3, 3))
    bias = normal("b", 5)
    x = normal("x", 2, 3, 6, 6)
    F.conv2d(x, weight, bias)
    weight.data.mul_(2)
    bias.data.add_(1)
    assert_bits(F.conv2d(x, weight, bias), numpy_conv2d(x, weight, bias))
    with torch.inference_mode():
        weight.numpy()[...] = 1  # behind PyTorch's back
        assert_bits(F.conv2d(x, weight, bias), numpy_conv2d(x, weight, bias))


@pytest.mark.parametrize("bias_view", ["strided", "expanded", "offset"])
def test_bias_layouts(bias_view: str) -> None:
    bias = {
        "strided": nan_filled(10)[::2].copy_(normal("b", 5)),
        "expanded": normal("b", 1).expand(5),
        "offset": nan_filled(6)[1:].copy_(normal("b", 5)),
    }[bias_view]
    weight, x = normal("w", 5, 3, 3, 3), normal("x", 2, 3, 6, 6)
    expected = numpy_conv2d(x, weight, bias)
    assert_equals_at_each_level(lambda: F.conv2d(x, weight, bias), expected)


def test_output_is_channels_last_if_input_or_weight_is() -> None:
    x, weight = normal("x", 2, 3, 5, 7), normal("w", 4, 3, 3, 3)
    last = torch.channels_last
    x_last, weight_last = x.to(memory_format=last), weight.to(memory_format=last)
    assert F.conv2d(x, weight).is_contiguous()
    for a, b in ((x_last, weight), (x, weight_last), (x, panel(weight)), (x_last, panel(weight))):
        assert F.conv2d(a, b).is_contiguous(memory_format=last)


# ---- Padding, signs, sizes -----------------------------------------------------------------------


def test_infinite_weight_on_padding_gives_nan() -> None:
    for value in (INF, -INF, NAN):
        weight = torch.ones(1, 1, 3, 3)
        weight[0, 0, 0, 0] = value
        for w in (weight, panel(weight), weight.to(memory_format=torch.channels_last)):
            x = torch.ones(1, 1, 3, 3)
            for _, result in at_each_level(lambda x=x, w=w: F.conv2d(x, w, padding=1)):
                nan = result[0, 0].isnan()
                assert nan[0].all() and nan[:, 0].all()
                assert nan[1:, 1:].all() == (value != value)
    # Depthwise and grouped kernels may not skip such a tap either.
    weight = torch.ones(4, 1, 3, 3)
    weight[2, 0, 2, 2] = INF
    for _, result in at_each_level(
        lambda: F.conv2d(torch.ones(1, 4, 3, 3), weight, padding=1, groups=4)
    ):
        assert result[0, 2, 2].isnan().all() and result[0, 2, :, 2].isnan().all()
        assert result.isnan().sum() == 5


def test_zero_results_are_positive() -> None:
    """Totals start at +0, so a product of -0, or one that underflows to -0, never shows."""
    zero = torch.zeros(1, 3, 4, 4)
    tiny = torch.full((1, 3, 4, 4), 1e-45)
    for x, weight in ((zero, -torch.ones(2, 3, 3, 3)), (tiny, -torch.full((2, 3, 3, 3), 1e-45))):
        for bias in (None, torch.full((2,), -0.0)):
            for _, result in at_each_level(
                lambda x=x, w=weight, b=bias: F.conv2d(x, w, b, padding=1)
            ):
                assert (result == 0).all() and not result.signbit().any()


def test_large_batch() -> None:
    """More samples than 16 bits count."""
    x = normal("x", 65537, 2, 2, 3)
    for weight, groups in ((normal("w", 3, 2, 2, 2), 1), (normal("w", 2, 1, 2, 2), 2)):
        expected = numpy_conv2d(x, weight, None, padding=(0, 1), groups=groups)
        for _, view in list(layouts(x))[:2]:
            result = F.conv2d(view, weight, padding=(0, 1), groups=groups)
            assert_bits(result, expected)


def test_unbatched_input() -> None:
    x, weight, bias = normal("x", 3, 6, 5), normal("w", 4, 3, 3, 3), normal("b", 4)
    assert_bits(F.conv2d(x, weight, bias), numpy_conv2d(x[None], weight, bias)[0])
    assert_bits(
        F.conv1d(x[:, 0], weight[:, :, 0], bias),
        numpy_conv2d(x[None, :, :1], weight[:, :, :1], bias)[0, :, 0],
    )


def test_concurrent_callers() -> None:
    """Callers in several threads share no scratch memory."""
    weights = [normal(i, 40, 16, 3, 3) for i in range(4)]
    x = normal("x", 2, 16, 20, 23)
    expected = [F.conv2d(x, weight, padding=1) for weight in weights]

    def calls(i: int) -> list[Tensor]:
        return [F.conv2d(x, weights[i], padding=1) for _ in range(25)]

    with ThreadPoolExecutor(4) as pool:
        for i, results in enumerate(pool.map(calls, range(4))):
            for result in results:
                assert_bits(result, expected[i])


@st.composite
def problems(draw: st.DrawFn) -> tuple:
    def small(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    groups = draw(st.sampled_from([1, 1, 2, 3, 4, 16, 21]))
    many = groups > 4
    group_channels = draw(st.sampled_from([1, 2, 4, 8] if many else [1, 2, 3, 5, 17, 43, 64, 129]))
    out_channels = groups * draw(st.sampled_from([1, 2, 4, 5, 8] if many else [1, 3, 8, 15, 33]))
    kernel = small(1, 4), small(1, 4)
    dilation, stride = (small(1, 3), small(1, 3)), (small(1, 4), small(1, 4))
    padding = small(0, 4), small(0, 4)
    size = [
        max(1, dilation[d] * (kernel[d] - 1) + 1 - 2 * padding[d]) + small(0, 7) for d in (0, 1)
    ]
    shape = (small(1, 3), groups * group_channels, *size)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    dtype = draw(st.sampled_from(reference_dtypes.FLOATING))
    choices = small(0, 50), small(0, 50), small(1, 3), small(0, 1), small(0, 1), dtype
    return shape, (out_channels, group_channels, *kernel), options, choices


@settings(max_examples=60)
@given(problems())
def test_any_problem(problem: tuple) -> None:
    shape, weight_shape, options, choices = problem
    x_layout, weight_layout, threads, has_bias, special, dtype = choices
    x, weight = normal(problem, *shape, dtype=dtype), normal("w", *weight_shape, dtype=dtype)
    if special:
        x = with_specials(x, problem, share=0.002)
    bias = normal("b", weight_shape[0], dtype=dtype) if has_bias else None
    expected = numpy_conv2d(x, weight, bias, **options)
    x_views = list(layouts(x))
    weight_views = [("panel", panel(weight)), *layouts(weight)]
    x_name, x_view = x_views[x_layout % len(x_views)]
    weight_name, weight_view = weight_views[weight_layout % len(weight_views)]
    torch.set_num_threads(threads)
    assert_equals_at_each_level(
        lambda: F.conv2d(x_view, weight_view, bias, **options),
        expected,
        f"input {x_name}, weight {weight_name}, {threads} threads",
    )
