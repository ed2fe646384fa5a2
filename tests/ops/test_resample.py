"""Resampling is R8: chains of fma over taps that follow from the sizes alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

import bninv
import bninv.functional as F
from bninv.dispatch import table
from tests.support import reference_dtypes, reference_resample
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    at_each_level,
    layouts,
    normal,
    with_specials,
)
from tests.support.reference_resample import interpolated

TF = torch.nn.functional


def case(label: str, shape, dtype: torch.dtype = torch.float32, **options) -> Case:
    # Stock has no antialias in 16-bit types on the CPU.
    widens = options.get("antialias") and dtype in reference_dtypes.NARROW

    def stock(x: Tensor) -> Tensor:
        y = TF.interpolate(x.float() if widens else x, **options)
        return y.to(dtype)

    return Case(
        f"{options.get('mode')}: {label}",
        shape,
        run=lambda x: F.interpolate(x, **options),
        stock=stock,
        reference=lambda x: reference_resample.interpolate(x, **options),
        dtype=dtype,
    )


SIZES = [
    ("twice", (2, 19, 5, 9), {"size": (10, 18)}),
    ("up, corners aligned", (2, 3, 7, 5), {"size": (9, 23), "align_corners": True}),
    ("down", (2, 17, 19, 23), {"size": (4, 7)}),
    ("one row, one column", (2, 5, 1, 1), {"size": (3, 2)}),
    ("to one pixel", (2, 5, 6, 7), {"size": 1}),
    ("to one pixel, corners aligned", (2, 5, 6, 7), {"size": 1, "align_corners": True}),
    ("width stays", (2, 33, 6, 7), {"size": (11, 7)}),
    ("height stays", (2, 33, 6, 7), {"size": (6, 20)}),
    ("all stays", (2, 16, 6, 7), {"size": (6, 7)}),
    ("by a factor", (2, 3, 10, 33), {"scale_factor": 1.37}),
    (
        "by a factor, recomputed",
        (2, 3, 7, 9),
        {"scale_factor": 1.4, "recompute_scale_factor": True},
    ),
    ("by two factors", (2, 35, 9, 8), {"scale_factor": (0.41, 2.3)}),
    ("a factor that keeps the size", (2, 3, 4, 5), {"scale_factor": 1.15}),
]
IMAGE_MODES = list(itertools.product(("bilinear", "bicubic"), (False, True)))


class TestImages(ContractTests):
    CASES = [
        case(
            f"{label}{', antialias' * antialias}", shape, mode=mode, antialias=antialias, **options
        )
        for mode, antialias in IMAGE_MODES
        for label, shape, options in SIZES
        if not antialias or label in ("down", "width stays", "by a factor", "by two factors")
    ]


class TestSignalsAndVolumes(ContractTests):
    CASES = [
        case("up", (2, 19, 9), mode="linear", size=23),
        case("down, by a factor", (2, 5, 40), mode="linear", scale_factor=0.3),
        case("corners aligned", (2, 5, 7), mode="linear", size=12, align_corners=True),
        case("up", (2, 5, 3, 4, 5), mode="trilinear", size=(5, 7, 9)),
        case("depth stays", (2, 17, 3, 4, 5), mode="trilinear", size=(3, 9, 7)),
        case("depth alone", (2, 17, 3, 4, 5), mode="trilinear", size=(7, 4, 5)),
        case("by factors", (2, 3, 6, 5, 4), mode="trilinear", scale_factor=(0.5, 1.3, 2)),
        case(
            "corners aligned", (2, 3, 3, 4, 5), mode="trilinear", size=(5, 3, 8), align_corners=True
        ),
    ]


class TestResampleDtypes(ContractTests):
    CASES = [
        case(
            f"{label}{', antialias' * antialias}", shape, dtype, mode=mode, antialias=antialias, **o
        )
        for dtype in reference_dtypes.OTHERS
        for mode, antialias in IMAGE_MODES
        for label, shape, o in (SIZES[1], SIZES[2])
    ]


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_copies_what_pytorch_takes(mode: str) -> None:
    for old, new in itertools.product((1, 2, 3, 7, 13, 28), (1, 2, 5, 14, 26, 31, 56)):
        x = torch.arange(old, dtype=torch.float32).expand(1, 2, 3, old)
        assert_bits(F.interpolate(x, (3, new), mode=mode), TF.interpolate(x, (3, new), mode=mode))
    x = normal("x", 2, 3, 7, 9)
    # Some of these keep the size or double it, along one dimension or all.
    for view, scales in (
        (x, (1.3, 0.6, 1.12, 2.2, (1.12, 1.7), (2.1, 1.05))),
        (x[0], (0.6, 1.1, 2.08)),
        (normal("x5", 1, 2, 3, 4, 5), (1.2, 2.3, (1.1, 2.05, 0.7))),
    ):
        for scale, recompute in itertools.product(scales, (None, True)):
            options = {"scale_factor": scale, "recompute_scale_factor": recompute, "mode": mode}
            assert_bits(F.interpolate(view, **options), TF.interpolate(view, **options))


def test_nearest_by_fractions_is_no_copy_of_cudas() -> None:
    """Where stock takes other elements than on the CPU, bninv's own is called."""
    row = table.row_of(TF.interpolate)
    assert row is not None and row.repair is not None
    with FakeTensorMode():
        there, here = (torch.empty(1, 1, 3, 3, device=device) for device in ("cuda", "cpu"))
        for tensor, options, exact in (
            (there, {"scale_factor": 1.1}, False),
            (there, {"scale_factor": (2, 1.5), "mode": "nearest-exact"}, False),
            (there, {"scale_factor": 2}, True),
            (there, {"size": 4}, True),
            (here, {"scale_factor": 1.1}, True),
        ):
            assert row.is_exact((tensor,), options) == exact, options


def test_area_is_adaptive_average_pooling() -> None:
    x = normal("x", 2, 19, 9, 7)
    assert_bits(F.interpolate(x, (4, 5), mode="area"), F.adaptive_avg_pool2d(x, (4, 5)))
    assert_bits(F.interpolate(x, scale_factor=0.5, mode="area"), F.adaptive_avg_pool2d(x, (4, 3)))
    assert_bits(F.interpolate(x[0], 3, mode="area"), F.adaptive_avg_pool1d(x[0], 3))
    y = normal("y", 2, 3, 4, 9, 7)
    assert_bits(F.interpolate(y, (3, 4, 5), mode="area"), F.adaptive_avg_pool3d(y, (3, 4, 5)))


@pytest.mark.parametrize(("mode", "antialias"), IMAGE_MODES)
def test_what_is_no_tap_has_no_effect(mode: str, antialias: bool) -> None:
    """An infinite or NaN element reaches the outputs whose taps it is, by weights of zero too."""
    for value in (NAN, INF):
        for old, new in ((9, 18), (19, 7), (9, 9)):
            x = torch.zeros(1, 3, old, old)
            x[:, :, old // 2, old // 2] = value
            options = {"size": (new, new), "mode": mode, "antialias": antialias}
            for name, view in list(layouts(x))[:2]:
                assert_equals_at_each_level(
                    lambda v=view, o=options: F.interpolate(v, **o),
                    interpolated(x, **options),
                    name,
                )
            assert F.interpolate(x, **options)[0, 0, 0, 0] == 0


def test_a_dimension_that_stays_is_no_operation() -> None:
    x = with_specials(normal("x", 2, 19, 5, 7))
    for name, view in layouts(x):
        for mode, antialias in IMAGE_MODES[:2]:
            result = F.interpolate(view, (5, 7), mode=mode, antialias=antialias)
            assert_bits(result, x, name)


def test_no_result_is_a_negative_zero_of_zeros() -> None:
    x = torch.full((1, 19, 4, 5), -0.0)
    for mode, antialias in IMAGE_MODES:
        for _, view in list(layouts(x))[:2]:
            result = F.interpolate(view, (7, 3), mode=mode, antialias=antialias)
            assert (result == 0).all() and not result.signbit().any()


@pytest.mark.parametrize(("mode", "antialias"), IMAGE_MODES)
def test_wide_rows_and_many_channels(mode: str, antialias: bool) -> None:
    """More than one block of channels, and rows whose taps lie beyond one vector."""
    for shape, size in (((1, 200, 3, 700), (5, 900)), ((1, 3, 5, 4000), (2, 130))):
        x = normal("x", *shape)
        expected = F.interpolate(x, size, mode=mode, antialias=antialias)
        last = x.contiguous(memory_format=torch.channels_last)
        for level, result in at_each_level(
            lambda v=last, s=size: F.interpolate(v, s, mode=mode, antialias=antialias)
        ):
            assert_bits(result, expected, level)
    part = normal("x", 1, 3, 5, 4000)[:, :1, :2]
    assert_bits(
        F.interpolate(part, (2, 31), mode=mode, antialias=antialias),
        interpolated(part, (2, 31), mode=mode, antialias=antialias),
    )


def test_accuracy_is_stocks() -> None:
    x = normal("x", 4, 8, 37, 41)
    for mode, antialias in IMAGE_MODES:
        for size in ((74, 82), (19, 23), (111, 20)):
            options = {"size": size, "mode": mode, "antialias": antialias}
            exact = TF.interpolate(x.double(), **options)
            own, stock = (
                (function(x, **options) - exact).abs().max().item()
                for function in (F.interpolate, TF.interpolate)
            )
            assert own <= 2 * stock, options


CALLS = {
    "upsample_linear1d": ((12,), [(True,), (False, 2.4)]),
    "upsample_bilinear2d": ((12, 9), [(True,), (False, 2.0, 1.5), (False, None, 1.5)]),
    "upsample_bicubic2d": ((12, 9), [(True,), (False, 2.0, 1.5), (False, None, 1.5)]),
    "upsample_trilinear3d": ((4, 12, 9), [(True,), (False, 2.0, 2.0, 1.5)]),
    "_upsample_bilinear2d_aa": ((3, 9), [(True,), (False, 0.5, 1.5)]),
    "_upsample_bicubic2d_aa": ((3, 9), [(True,), (False, 0.5, 1.5)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_overload_of_pytorchs_operators(name: str) -> None:
    """Under the protection each is bninv's, by position and by name, by sizes and by factors."""
    sizes, forms = CALLS[name]
    x = normal("x", 2, 3, *(2, 6, 6)[3 - len(sizes) :])
    packet = getattr(torch.ops.aten, name)
    own = bninv.operators.ATEN[name]
    factors = [n / m for n, m in zip(sizes, x.shape[2:], strict=True)]
    for form in forms:
        torch.testing.assert_close(own(x, list(sizes), *form), packet(x, list(sizes), *form))
    for align_corners in (False, True):
        arguments = {"align_corners": align_corners, "scale_factors": factors}
        torch.testing.assert_close(
            own(x, output_size=None, **arguments), packet.vec(x, None, **arguments)
        )
        torch.testing.assert_close(
            own(x, list(sizes), align_corners, None),
            packet.vec(x, list(sizes), align_corners, None),
        )


def test_of_pytorchs_functions_none_is_uncovered() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = TF.interpolate(x, scale_factor=2, mode="bilinear")
            y = TF.interpolate(y, (5, 4), mode="bicubic", antialias=True)
            y = TF.interpolate(y, (7, 9), None, "area")
            y = torch._C._nn.upsample_bicubic2d(y, [5, 6], False, None)
            y = torch.ops.aten.upsample_bilinear2d.vec(y, None, True, [1.5, 1.5])
            return TF.interpolate(y, scale_factor=3)

    model = bninv.patch(Model().eval())
    x = normal("x", 2, 3, 6, 7)
    with torch.no_grad():
        y = F.interpolate(x, scale_factor=2, mode="bilinear")
        y = F.interpolate(y, (5, 4), mode="bicubic", antialias=True)
        y = F.interpolate(y, (7, 9), mode="area")
        y = F.interpolate(y, (5, 6), mode="bicubic")
        y = F.interpolate(y, scale_factor=1.5, mode="bilinear", align_corners=True)
        assert_bits(model(x), F.interpolate(y, scale_factor=3))
    assert list(bninv.uncovered(model)) == []


def test_errors_name_the_argument() -> None:
    x = normal("x", 1, 2, 4, 5)
    for options, word in (
        ({"size": 3, "mode": "cubic"}, "mode"),
        ({"size": 3, "mode": "linear"}, "input"),
        ({"size": 3, "scale_factor": 2, "mode": "bilinear"}, "size"),
        ({"mode": "bilinear"}, "size"),
        ({"size": (3, 3, 3), "mode": "bilinear"}, "size"),
        ({"size": (3, -1), "mode": "bilinear"}, "output_size"),
        ({"size": 0, "mode": "bilinear"}, "output_size"),
        ({"size": 2.5, "mode": "bilinear"}, "size"),
        ({"scale_factor": 0.0, "mode": "bilinear"}, "scale_factor"),
        ({"scale_factor": NAN, "mode": "bicubic"}, "scale_factor"),
        ({"scale_factor": (1, 2, 3), "mode": "bicubic"}, "scale_factor"),
        ({"scale_factor": "2", "mode": (1,)}, "mode"),
        ({"scale_factor": 1e-3, "mode": "bilinear"}, "output_size"),
        ({"size": 3, "align_corners": True}, "align_corners"),
        ({"size": 3, "antialias": True}, "antialias"),
        ({"size": 3, "recompute_scale_factor": True}, "recompute_scale_factor"),
    ):
        with pytest.raises((ValueError, RuntimeError, TypeError), match=rf"`{word}`"):
            F.interpolate(x, **options)
    with pytest.raises(RuntimeError, match="`input` has shape"):
        F.interpolate(torch.zeros(1, 2, 0, 3), (2, 2), mode="bilinear")
    resample = torch.ops.bninv.resample
    for arguments, word in (
        (([2, 2], [], "cubical", False, False), "mode"),
        (([2], [], "linear", False, False), "output_size"),
        (([2, 2], [1.0], "linear", False, False), "scale_factors"),
        (([2, 2], [1.0, -3.0], "linear", False, False), "scale_factors"),
        (([2, 2], [1.0, float("nan")], "linear", False, False), "scale_factors"),
        (([2**31, 2], [], "linear", False, False), "output_size"),
    ):
        with pytest.raises(RuntimeError, match=rf"`{word}`"):
            resample(x, *arguments)
    with pytest.raises(RuntimeError, match="`mode` is 'cubic'"):
        resample(normal("v", 1, 1, 2, 3, 4), [2, 2, 2], [], "cubic", False, False)


@st.composite
def problems(draw: st.DrawFn) -> tuple:
    spatial = draw(st.sampled_from([1, 2, 2, 2, 3]))
    sizes = st.lists(st.integers(1, 20), min_size=spatial, max_size=spatial)
    old, new = draw(sizes), draw(sizes)
    mode = {1: "linear", 3: "trilinear"}.get(spatial)
    options: dict[str, Any] = {"mode": mode or draw(st.sampled_from(["bilinear", "bicubic"]))}
    options["align_corners"] = draw(st.booleans())
    options["antialias"] = spatial == 2 and draw(st.booleans())
    if draw(st.booleans()):
        options["size"] = tuple(new)
    else:
        options["scale_factor"] = tuple(
            (n + draw(st.floats(0.01, 0.9))) / m for m, n in zip(old, new, strict=True)
        )
        options["recompute_scale_factor"] = draw(st.sampled_from([None, False, True]))
    channels = draw(st.sampled_from([1, 3, 8, 17, 33]))
    choices = st.tuples(
        st.integers(0, 50), st.integers(1, 3), st.sampled_from(reference_dtypes.FLOATING)
    )
    return (draw(st.integers(1, 3)), channels, *old), options, draw(choices)


@settings(max_examples=80)
@given(problems())
def test_any_problem(problem: tuple) -> None:
    shape, options, (layout, threads, dtype) = problem
    x = with_specials(normal(problem, *shape, dtype=dtype), problem, share=0.02)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    torch.set_num_threads(threads)
    with np.errstate(all="ignore"):
        expected = interpolated(x, **options)
    assert_equals_at_each_level(lambda: F.interpolate(view, **options), expected, name)
