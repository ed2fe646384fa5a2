"""conv3d and the transposed convolutions: R1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv
import bninv.functional as F
from bninv._memory_format import is_channels_last
from tests.support import reference_convolution, reference_dtypes
from tests.support.properties import (
    INF,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    normal,
    with_specials,
)

# Stock PyTorch, the yardstick, says that it copies; nothing here does.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def case(name: str, label: str, shape: Any, weight_shape: Any, **options: Any) -> Case:
    dtype = options.pop("dtype", torch.float32)
    transposed = "transpose" in name
    out = weight_shape[1] * options.get("groups", 1) if transposed else weight_shape[0]
    weight = normal(f"{label} weight", *weight_shape, dtype=dtype)
    bias = normal(f"{label} bias", out, dtype=dtype) if options.pop("bias", True) else None
    form = reference_convolution.conv_transpose if transposed else reference_convolution.convolution
    arrays = [None if v is None else reference_dtypes.widened(v, dtype) for v in (weight, bias)]
    return Case(
        f"{name} {label}",
        shape,
        run=lambda x: getattr(F, name)(x, weight, bias, **options),
        stock=lambda x: getattr(torch.nn.functional, name)(x, weight, bias, **options),
        reference=lambda x: form(x, *arrays, **options),
        dtype=dtype,
    )


def conv3d_case(label: str, *args: Any, **options: Any) -> Case:
    return case("conv3d", label, *args, **options)


CONV3D = [
    ("3x3x3", (2, 17, 3, 4, 5), (21, 17, 3, 3, 3), {"padding": 1}),
    ("stem", (2, 3, 4, 9, 8), (18, 3, 3, 7, 7), {"stride": (1, 2, 2), "padding": (1, 3, 3)}),
    ("points", (3, 130, 2, 2, 3), (34, 130, 1, 1, 1), {"stride": (1, 2, 1)}),
    (
        "groups, dilation",
        (2, 12, 5, 6, 5),
        (9, 4, 2, 3, 2),
        {"groups": 3, "dilation": (2, 1, 3), "padding": (1, 0, 2), "stride": (2, 1, 1)},
    ),
    ("depthwise", (2, 37, 3, 4, 6), (37, 1, 3, 3, 3), {"groups": 37, "padding": 1}),
    ("same", (2, 5, 3, 4, 5), (6, 5, 2, 3, 4), {"padding": "same", "bias": False}),
]
TRANSPOSED = [
    ("conv_transpose2d", "doubled", (2, 33, 5, 4), (33, 18, 2, 2), {"stride": 2}),
    ("conv_transpose2d", "4, 2", (2, 40, 4, 5), (40, 17, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose2d", "3", (2, 7, 5, 6), (7, 34, 3, 3), {"padding": 1, "bias": False}),
    (
        "conv_transpose2d",
        "gaps, dilation",
        (2, 6, 4, 3),
        (6, 5, 3, 2),
        {"stride": (4, 3), "padding": (1, 0), "output_padding": (3, 1), "dilation": (2, 4)},
    ),
    (
        "conv_transpose2d",
        "groups",
        (2, 12, 3, 4),
        (12, 6, 3, 4),
        {"stride": (2, 1), "groups": 3, "output_padding": (1, 0)},
    ),
    (
        "conv_transpose2d",
        "depthwise",
        (2, 35, 4, 3),
        (35, 1, 4, 4),
        {"stride": 2, "padding": 1, "groups": 35},
    ),
    ("conv_transpose1d", "16, 8", (2, 19, 6), (19, 9, 16), {"stride": 8, "padding": 4}),
    ("conv_transpose1d", "two segments", (2, 5, 3), (5, 3, 40), {"stride": 3}),
    (
        "conv_transpose3d",
        "volume",
        (2, 18, 2, 3, 2),
        (18, 20, 3, 3, 3),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    ("conv_transpose3d", "one voxel", (2, 130, 1, 1, 1), (130, 5, 2, 4, 4), {}),
]
# In every dtype: float64's reference is slow.
SMALL = [
    ("conv3d", "small", (2, 5, 2, 3, 2), (4, 5, 3, 3, 3), {"padding": 1}),
    ("conv3d", "small depthwise", (2, 9, 2, 2, 3), (9, 1, 3, 3, 3), {"padding": 1, "groups": 9}),
    ("conv_transpose2d", "small", (2, 9, 2, 3), (9, 3, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose2d", "small depthwise", (2, 9, 2, 3), (9, 1, 3, 3), {"stride": 2, "groups": 9}),
]


class TestConv3d(ContractTests):
    CASES = [conv3d_case(*args, **options) for *args, options in CONV3D]


class TestTransposed(ContractTests):
    CASES = [case(*args, **options) for *args, options in TRANSPOSED]


class TestDtypes(ContractTests):
    CASES = [
        case(*args, **options, dtype=dtype)
        for dtype in reference_dtypes.OTHERS
        for *args, options in SMALL
    ]

    def test_output_memory_format_is_torchs(self, case: Case) -> None:
        if case.dtype == torch.float64 and case.label.startswith("conv3d"):
            pytest.skip("stock's conv3d of float64 is contiguous whatever its input is")
        super().test_output_memory_format_is_torchs(case)


def test_a_tap_on_padding_is_a_term() -> None:
    x, weight = torch.ones(1, 1, 1, 1, 2), torch.tensor([INF, 1.0, 1.0]).view(1, 1, 1, 1, 3)
    result = F.conv3d(x, weight, padding=(0, 0, 1))
    assert result.flatten()[0].isnan() and result.flatten()[1] == INF


def test_a_tap_that_reaches_no_input_is_none() -> None:
    """Neither in the gaps of the stride nor beyond an edge does an infinite weight show."""
    x, weight = torch.ones(1, 1, 2), torch.tensor([1.0, INF, 1.0]).view(1, 1, 3)
    assert F.conv_transpose1d(x, weight, stride=2).flatten().tolist() == [1, INF, 2, INF, 1]
    weight = torch.tensor([INF, 1.0, 1.0]).view(1, 1, 3)
    assert F.conv_transpose1d(x, weight).flatten().tolist() == [INF, INF, 2, 1]


def test_absent_terms_keep_their_place() -> None:
    """A chain ends with 128 values of k, of which a stride of two lets half be terms."""
    x, weight = normal("x", 1, 64, 6), normal("w", 64, 3, 4)
    found = F.conv_transpose1d(x, weight, stride=2)
    # Taps 0 and 2 are of different segments: their chains are separate.
    products = [F.conv1d(x, weight[:, :, tap].T.unsqueeze(-1)) for tap in (0, 2)]
    expected = products[0][..., 1:] + products[1][..., :-1]
    assert_bits(found[..., 2:-2:2], expected)


def panels(weight: Tensor, transposed: bool) -> Tensor:
    order = (*range(2, weight.dim()), *((0, 1) if transposed else (1, 0)))
    return weight.permute(order).contiguous().permute([order.index(d) for d in range(weight.dim())])


@pytest.mark.parametrize("threads", [1, 3])
def test_weight_layouts(threads: int) -> None:
    torch.set_num_threads(threads)
    for name, x_shape, w_shape, options in (
        ("conv3d", (2, 8, 3, 4, 4), (12, 8, 2, 3, 3), {}),
        ("conv_transpose3d", (2, 8, 2, 3, 3), (8, 12, 2, 3, 3), {"stride": 2}),
        ("conv_transpose2d", (2, 8, 3, 3), (8, 12, 4, 4), {"stride": 2}),
        ("conv_transpose2d", (2, 8, 3, 3), (8, 3, 3, 3), {"groups": 2}),
        ("conv_transpose2d", (2, 8, 3, 3), (8, 1, 3, 3), {"groups": 8}),
    ):
        x, weight = normal("x", *x_shape), normal("w", *w_shape)
        function = getattr(F, name)
        expected = function(x, weight, **options)
        views = [*layouts(weight), ("panel", panels(weight, "transpose" in name))]
        for layout, view in views:
            run = lambda v=view: function(x, v, **options)  # noqa: E731
            assert_equals_at_each_level(run, expected, f"{name}, {layout}")
        if options.get("groups", 1) in (1, 8):
            assert is_channels_last(function(x, views[-1][1], **options))


def test_opcheck() -> None:
    """Fake kernels tell shapes and strides, in all layouts."""
    for name, w_shape, options in (
        ("conv3d", (6, 4, 2, 3, 1), [[1, 2, 1], [1, 0, 1], [1, 1, 2], 1]),
        ("conv_transpose3d", (4, 6, 2, 3, 1), [[1, 2, 1], [0, 1, 0], [0, 1, 0], 1, [1, 1, 2]]),
        ("conv_transpose3d", (4, 1, 2, 3, 1), [[1, 2, 1], [0, 1, 0], [0, 1, 0], 4, [1, 1, 2]]),
    ):
        x, weight = normal("x", 2, 4, 4, 5, 3), normal("w", *w_shape)
        op = getattr(torch.ops.bninv, name).default
        torch.library.opcheck(op, (x, panels(weight, "transpose" in name), None, *options))
        x = x.contiguous(memory_format=torch.channels_last_3d)
        torch.library.opcheck(op, (x, weight, None, *options))


def test_without_a_batch() -> None:
    x, weight = normal("x", 4, 3, 4, 5), normal("w", 4, 6, 2, 2, 2)
    assert_bits(F.conv_transpose3d(x, weight), F.conv_transpose3d(x[None], weight)[0])
    weight = weight.transpose(0, 1)
    assert_bits(F.conv3d(x, weight), F.conv3d(x[None], weight)[0])


def test_autocast() -> None:
    x, weight = normal("x", 2, 4, 3, 4, 5), normal("w", 6, 4, 2, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = F.conv3d(x, weight)
        turned = F.conv_transpose3d(x, weight.transpose(0, 1), stride=2)
    assert_bits(found, F.conv3d(x.bfloat16(), weight.bfloat16()))
    expected = F.conv_transpose3d(x.bfloat16(), weight.bfloat16().transpose(0, 1), stride=2)
    assert_bits(turned, expected)


def test_modules_take_an_output_size() -> None:
    module = bninv.patch(torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1).eval())
    x = normal("x", 2, 4, 5, 6)
    with torch.no_grad():
        found = module(x, output_size=[10, 11])
        assert_bits(found, F.conv_transpose2d(x, module.weight, module.bias, 2, 1, (1, 0)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 0}, "`stride` is \\[0, 0, 0\\]; it may be three integers"),
        ({"padding": -1}, "`padding` is .*; it may be three integers from 0"),
        ({"output_padding": 2}, "`output_padding` is .*less than one of the two"),
        ({"padding": 9}, "`padding` .* leaves"),
        ({"groups": 3}, "`groups` is 3; it may be a positive divisor"),
        ({"weight": torch.zeros(5, 6, 2, 2, 2)}, "`input` has 4 channels; .* it may have 5"),
        ({"weight": torch.zeros(4, 6, 2, 2)}, "`weight` has shape"),
        ({"bias": torch.zeros(5)}, "`bias` has shape \\[5\\]; it may be \\[6\\]"),
        ({"input": torch.zeros(2, 4, 0, 2, 2)}, "`input` has shape .* 1 and more"),
    ],
)
def test_errors(changed: dict[str, Any], message: str) -> None:
    arguments = {"input": torch.zeros(1, 4, 2, 2, 2), "weight": torch.zeros(4, 6, 2, 2, 2)}
    with pytest.raises((ValueError, RuntimeError), match=message):
        F.conv_transpose3d(**{**arguments, **changed})


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_shape(data: Any) -> None:
    draw = data.draw
    dims, small = draw(st.integers(1, 3)), st.integers(1, 4)
    transposed = draw(st.booleans()) or dims < 3
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, out = (draw(st.sampled_from([1, 2, 5, 16, 40])) for _ in range(2))
    kernel, stride, dilation = ([draw(small) for _ in range(dims)] for _ in range(3))
    padding = [draw(st.integers(0, 3)) for _ in range(dims)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    extra = [draw(st.integers(0, 4)) for _ in range(dims)]
    least = [max(1, 2 * p + 2 - n) if transposed else max(1, n - 2 * p)
             for n, p in zip(reach, padding, strict=True)]  # fmt: skip
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    options["groups"] = groups
    if transposed:
        name = f"conv_transpose{dims}d"
        form: Any = reference_convolution.conv_transpose
        weight = normal("w", groups * channels, out, *kernel)
        options["output_padding"] = [
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        ]
    else:
        name, form = "conv3d", reference_convolution.convolution
        weight = normal("w", groups * out, channels, *kernel)
    size = [n + e for n, e in zip(least, extra, strict=True)]
    x = normal("x", draw(st.integers(1, 2)), groups * channels, *size)
    if draw(st.booleans()):
        x, weight = with_specials(x, share=0.01), with_specials(weight, 1, share=0.02)
    views = list(layouts(x))
    layout, view = views[draw(st.integers(0, len(views) - 1))]
    bias = normal("b", groups * out) if draw(st.booleans()) else None
    arrays = [v if v is None else v.numpy() for v in (x, weight, bias)]
    expected = torch.from_numpy(form(*arrays, **options))
    run = lambda: getattr(F, name)(view, weight, bias, **options)  # noqa: E731
    assert_equals_at_each_level(run, expected, f"{name}, {layout}")
