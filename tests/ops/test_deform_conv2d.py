"""Deformable convolution: taps by R8's chains, the product by R1."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv
import bninv.functional as F
from bninv.operators import deform_conv2d as room
from tests.support import reference_deform, reference_dtypes
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    normal,
    panel,
    with_specials,
)
from tests.support.reference import Reals

stock_deform_conv2d = torchvision.ops.deform_conv2d


def arguments(
    shape, out, kernel=(3, 3), groups=1, offset_groups=1, has_mask=True, dtype=torch.float32, **more
):
    """For one sample: offset, weight, bias, options."""
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), **more}
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            shape[2:], kernel, *(options[key] for key in ("stride", "padding", "dilation"))
        )
    ]
    taps = offset_groups * kernel[0] * kernel[1]
    offset = reference_deform.seeded_offsets((1, 2 * taps, *size), 7, dtype)
    weight = normal("weight", out, shape[1] // groups, *kernel, dtype=dtype)
    mask = normal("mask", 1, taps, *size, dtype=dtype) if has_mask else None
    return offset, weight, normal("bias", out, dtype=dtype), mask, options


def case(label: str, shape, out: int, **more) -> Case:
    offset, weight, bias, mask, options = arguments(shape, out, **more)
    dtype = more.get("dtype", torch.float32)

    def run(function, x: Tensor) -> Tensor:
        offsets = offset.expand(len(x), *offset.shape[1:])
        masks = mask if mask is None else mask.expand(len(x), *mask.shape[1:])
        return function(x, offsets, weight, bias, **options, mask=masks)

    def stock(x: Tensor) -> Tensor:
        if len(x) == 0:
            return run(F.deform_conv2d, x)
        wide = (t if t is None else t.double() for t in (weight, bias, offset, mask))
        weights, biases, offsets, masks = wide
        offsets = offsets.expand(len(x), *offsets.shape[1:])
        masks = masks if masks is None else masks.expand(len(x), *masks.shape[1:])
        result = stock_deform_conv2d(x.double(), offsets, weights, biases, **options, mask=masks)
        return result.to(dtype)

    def reference(x: Reals) -> Reals:
        own = reference_dtypes.rounded(x, dtype)
        result = run(reference_deform.deform_conv2d, own)
        return reference_dtypes.widened(result, dtype)

    return Case(
        label,
        shape,
        run=lambda x: run(F.deform_conv2d, x),
        stock=stock,
        reference=reference,
        dtype=dtype,
    )


class TestDeformConv2d(ContractTests):
    CASES = [
        case("3x3", (2, 5, 5, 4), 3),
        case("3x3, no mask", (2, 17, 4, 3), 4, has_mask=False),
        case("more terms than a segment", (2, 33, 3, 3), 2, has_mask=False),
        case("groups", (2, 6, 4, 5), 4, groups=2, offset_groups=3),
        case("groups of channels", (2, 20, 3, 4), 3, offset_groups=2, kernel=(1, 2)),
        case("depthwise", (2, 4, 4, 4), 4, groups=4),
        case("strides", (2, 3, 7, 6), 2, stride=(2, 1), dilation=(1, 2), padding=(0, 3)),
        case("one pixel", (2, 1, 1, 1), 1, kernel=(1, 1), padding=(0, 0)),
        *(case("3x3", (2, 3, 4, 4), 3, dtype=dtype) for dtype in reference_dtypes.OTHERS),
    ]

    def test_is_close_to_stock(self, case: Case) -> None:
        if case.dtype is torch.bfloat16:
            pytest.skip("its taps are rounded once more")
        super().test_is_close_to_stock(case)


def test_any_number_is_an_offset() -> None:
    numbers = [0.0, -0.0, 0.5, -1.0, -2.0, 3.0, 4.0, -0.25, 1e9, -1e20, 3e38, NAN, INF, -INF]
    numbers += [2.0**31, -(2.0**31), 2.0**63, 2.0**62, 1 - 2.0**-24, -1 + 2.0**-24]
    for dtype in (torch.float32, torch.float64):
        pairs = torch.tensor(list(itertools.product(numbers, numbers)), dtype=dtype)
        x = normal("x", 1, 3, 4, len(pairs), dtype=dtype)
        x[..., 1::7] = INF
        # One tap for each pair: every output reads about the image's first pixels.
        base = torch.arange(len(pairs), dtype=dtype)
        offset = torch.stack([pairs[:, 0], pairs[:, 1] - base]).view(1, 2, 1, -1)
        for values in (offset, pairs.t().reshape(1, 2, 1, -1)):
            offsets = values.expand(1, 2, 4, -1).contiguous()
            weight = normal("w", 2, 3, 1, 1, dtype=dtype)
            assert_equals_at_each_level(
                lambda o=offsets, w=weight, x=x: F.deform_conv2d(x, o, w),
                reference_deform.deform_conv2d(x, offsets, weight),
            )


def test_a_place_outside_and_a_mask() -> None:
    x, weight = torch.full((1, 1, 2, 2), INF), torch.ones(1, 1, 1, 1)
    for place, expected in ((-1.0, 0.0), (2.0, 0.0), (INF, 0.0), (-INF, 0.0), (NAN, NAN)):
        offset = torch.zeros(1, 2, 2, 2)
        offset[0, 0, 0, 0] = place
        found = F.deform_conv2d(x, offset, weight)[0, 0, 0, 0]
        assert found.item() == expected or (found.isnan() and expected != expected)
    # Outside of one dimension is outside, whatever the other's coordinate is.
    offset[0, :, 0, 0] = torch.tensor([5.0, NAN])
    assert F.deform_conv2d(x, offset, weight)[0, 0, 0, 0].item() == 0
    mask = torch.full((1, 1, 2, 2), NAN)
    assert F.deform_conv2d(x, offset, weight, mask=mask)[0, 0, 0, 0].isnan()


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
def test_without_offsets_it_is_conv2d(dtype: torch.dtype) -> None:
    x, bias = normal("x", 2, 40, 6, 5, dtype=dtype), normal("bias", 6, dtype=dtype)
    for groups, stride, padding, dilation in ((1, 1, 1, 1), (2, 2, 1, 1), (1, 1, 3, 2)):
        weight = normal("w", 6, 40 // groups, 3, 3, dtype=dtype)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        expected = F.conv2d(x, weight, bias, groups=groups, **options)
        offset = x.new_zeros(2, 18, *expected.shape[2:])
        for own in (weight, panel(weight)):
            assert_bits(F.deform_conv2d(x, offset, own, bias, **options), expected)
        ones = x.new_ones(2, 9, *expected.shape[2:])
        assert_bits(F.deform_conv2d(x, offset, weight, bias, **options, mask=ones), expected)


def test_layouts_and_samples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = normal("x", 5, 6, 4, 5), normal("w", 4, 6, 3, 3), normal("b", 4)
    offset, mask = normal("offset", 5, 18, 4, 5) * 2, normal("mask", 5, 9, 4, 5)
    expected = F.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    assert expected.is_contiguous()
    for name, view in layouts(offset):
        assert_bits(F.deform_conv2d(x, view, weight, bias, padding=1, mask=mask), expected, name)
    for name, view in layouts(mask):
        assert_bits(F.deform_conv2d(x, offset, weight, bias, padding=1, mask=view), expected, name)
    for i in range(5):
        one = slice(i, i + 1)
        alone = F.deform_conv2d(x[one], offset[one], weight, bias, padding=1, mask=mask[one])
        assert_bits(alone, expected[one])
    for most in (1, 2 * 6 * 9 * 20 * 4):
        monkeypatch.setattr(room, "_MOST_BYTES", {"cpu": most})
        assert_bits(F.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask), expected)


def test_nothing() -> None:
    offset = torch.zeros(2, 8, 3, 3)
    x, weight = normal("x", 2, 3, 4, 4), normal("w", 5, 3, 2, 2)
    assert F.deform_conv2d(x[:0], offset[:0], weight).shape == (0, 5, 3, 3)
    assert F.deform_conv2d(x, offset, weight[:0]).shape == (2, 0, 3, 3)


def test_of_torchvisions_functions_none_is_uncovered() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torchvision.ops.DeformConv2d(6, 4, 3, padding=1)
            self.second = torchvision.ops.DeformConv2d(4, 4, 3, padding=2, groups=2, bias=False)

        def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
            return self.second(self.first(x, offset, mask), torch.cat([offset, offset], 1)[..., :1])

    stock = Model().eval()
    stock.second.stride = (1, 7)
    x, offset = normal("x", 2, 6, 5, 5), normal("offset", 2, 18, 5, 5)
    mask = normal("mask", 2, 9, 5, 5)

    def second(y: Tensor) -> Tensor:
        return torch.cat([offset, offset], 1)[..., :1]

    model = Model().eval()
    model.load_state_dict(stock.state_dict())
    model.second.padding, model.second.stride = (1, 1), (1, 5)
    weights = model.first.weight, model.second.weight
    with torch.no_grad():
        plain = model(x, offset, mask)
        model = bninv.patch(model)
        y = F.deform_conv2d(x, offset, weights[0], model.first.bias, padding=1, mask=mask)
        expected = F.deform_conv2d(y, second(y), weights[1], stride=(1, 5), padding=1)
        assert_bits(model(x, offset, mask), expected)
    assert list(bninv.uncovered(model)) == []
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-4)


def test_autocast_casts_nothing_on_a_cpu() -> None:
    """As torchvision's operator: it is on CUDA alone that it is computed in float32."""
    x, offset, weight = normal("x", 1, 4, 5, 5), normal("o", 1, 18, 5, 5), normal("w", 3, 4, 3, 3)
    expected = F.deform_conv2d(x, offset, weight, padding=1)
    narrow = x.half(), offset.half(), weight.half()
    with torch.autocast("cpu", torch.bfloat16):
        assert_bits(F.deform_conv2d(x, offset, weight, padding=1), expected)
        with bninv.invariant(strict=True):
            assert_bits(stock_deform_conv2d(x, offset, weight, padding=1), expected)
            found = stock_deform_conv2d(*narrow, padding=1)
        assert found.dtype is stock_deform_conv2d(*narrow, padding=1).dtype
    assert_bits(found, F.deform_conv2d(*narrow, padding=1))


def test_errors_name_the_argument() -> None:
    good = {
        "input": normal("x", 2, 4, 5, 5),
        "offset": normal("o", 2, 36, 3, 3),
        "weight": normal("w", 3, 4, 3, 3),
        "bias": normal("b", 3),
        "mask": normal("m", 2, 18, 3, 3),
    }
    F.deform_conv2d(**good)
    for changed, word in (
        ({"input": good["input"][0]}, "input"),
        ({"input": good["input"].int()}, "input"),
        ({"input": None}, "input"),
        ({"offset": good["offset"][:, :35]}, "offset"),
        ({"offset": good["offset"][:, :17]}, "offset"),
        ({"offset": good["offset"][:1]}, "offset"),
        ({"offset": good["offset"].double()}, "offset"),
        ({"offset": None}, "offset"),
        ({"offset": normal("o", 2, 54, 3, 3)}, "offset"),
        ({"mask": good["mask"][..., :2]}, "mask"),
        ({"mask": good["mask"].half()}, "mask"),
        ({"mask": 1.0}, "mask"),
        ({"weight": good["weight"][0]}, "weight"),
        ({"weight": good["weight"].double()}, "weight"),
        ({"weight": good["weight"][:, :3]}, "weight"),
        ({"weight": normal("w", 3, 4, 6, 3)}, "weight"),
        ({"bias": good["bias"][:2]}, "bias"),
        ({"stride": 0}, "stride"),
        ({"padding": -1}, "padding"),
        ({"dilation": (1, 1, 1)}, "dilation"),
    ):
        with pytest.raises((RuntimeError, TypeError, ValueError), match=rf"`{word}`"):
            F.deform_conv2d(**{**good, **changed})


@settings(max_examples=25)
@given(
    st.tuples(*(st.integers(1, n) for n in (2, 3, 5, 5))),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*(st.integers(1, 3) for _ in range(4))),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]),
    st.booleans(),
    st.sampled_from(reference_dtypes.FLOATING),
    st.integers(0, 50),
)
def test_any_problem(shape, kernel, options, groups, has_mask, dtype, layout) -> None:
    shape = (shape[0], 2 * shape[1], *(n + 3 for n in shape[2:]))
    label = (shape, kernel, options, groups)
    offset, weight, bias, mask, options = arguments(
        shape,
        4,
        kernel,
        groups[0],
        groups[1],
        has_mask,
        dtype,
        stride=options[:2],
        dilation=tuple(min(d, 2) for d in options[2:]),
    )
    x = with_specials(normal(label, *shape, dtype=dtype), label, share=0.02)
    offset = with_specials(offset.repeat(shape[0], 1, 1, 1), label, share=0.02)
    mask = mask if mask is None else mask.repeat(shape[0], 1, 1, 1)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    assert_equals_at_each_level(
        lambda: F.deform_conv2d(view, offset, weight, bias, **options, mask=mask),
        reference_deform.deform_conv2d(x, offset, weight, bias, **options, mask=mask),
        name,
    )
