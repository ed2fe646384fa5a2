"""Regions of images are R10, and torchvision's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv.functional as F
from tests.support import reference_dtypes, reference_roi
from tests.support.boxes import OPERATORS, POSITIONED, corners, hostile_regions, of_images
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    generator,
    layouts,
    normal,
    with_specials,
)

own = torch.ops.bninv
TV = torchvision.ops
STOCK = torch.ops.torchvision


def case(
    name: str, shape: tuple[int, ...], bins: Any, *options: Any, dtype: torch.dtype = torch.float32
) -> Case:
    """Three regions of each sample: the same ones, so that a sample's results are its own."""
    scale, *others = options
    one = corners(name, 3, shape[2] / scale, shape[3] / scale)

    def boxes(n: int, dtype: torch.dtype) -> Tensor:
        indices = torch.arange(n).repeat_interleave(3)[:, None].float()
        return torch.cat([indices, one.repeat(n, 1)], 1).to(dtype)

    def by_sample(result: Tensor) -> Tensor:
        """Not regions, but samples first: [samples, 3 * channels, ...]."""
        return result.reshape(-1, 3 * result.shape[1], *result.shape[2:])

    def stock(x: Tensor) -> Tensor:
        if len(x) == 0 or x.dtype not in reference_dtypes.NARROW:
            return by_sample(getattr(TV, name)(x, boxes(len(x), x.dtype), bins, *options))
        # Their corners are rounded in stock's way of computing.
        wide = boxes(len(x), x.dtype).float()
        return by_sample(getattr(TV, name)(x.float(), wide, bins, *options).to(x.dtype))

    def reference(x: Any) -> Any:
        regions = reference_dtypes.widened(boxes(len(x), dtype), dtype)
        size = (bins, bins) if isinstance(bins, int) else bins
        if name.endswith("align"):
            result = reference_roi.aligned_regions(
                x, regions, size, scale, *others, by_position=name in POSITIONED
            )
        else:
            result = reference_roi.pooled_regions(x, regions, size, scale, name == "ps_roi_pool")[0]
        return result.reshape(-1, 3 * result.shape[1], *size)

    return Case(
        f"{name} {bins} {options}",
        shape,
        run=lambda x: by_sample(getattr(F, name)(x, boxes(len(x), x.dtype), bins, *options)),
        stock=stock,
        reference=reference,
        dtype=dtype,
    )


IMAGE, DEEP = (3, 5, 9, 7), (2, 12, 8, 11)


class TestRegions(ContractTests):
    CASES = [
        case("roi_align", IMAGE, (3, 2), 0.5, 2, False),
        case("roi_align", IMAGE, 3, 0.25, -1, True),
        case("roi_align", (2, 37, 6, 8), (2, 4), 1.0, 3, True),
        case("roi_align", (2, 3, 1, 1), 2, 1.0, 2, False),
        case("ps_roi_align", DEEP, (2, 3), 0.5, 2),
        case("ps_roi_align", DEEP, 2, 1.0, -1),
        case("roi_pool", IMAGE, (3, 2), 0.5),
        case("roi_pool", (2, 37, 6, 8), 7, 1.0),
        case("ps_roi_pool", DEEP, (2, 3), 0.5),
        case("ps_roi_pool", (2, 8, 19, 23), 2, 1.0),
        *(
            case(name, DEEP, (2, 3), 0.5, *options, dtype=dtype)
            for dtype in reference_dtypes.OTHERS
            for name, options in (
                ("roi_align", (2, False)),
                ("ps_roi_align", (2,)),
                ("roi_pool", ()),
                ("ps_roi_pool", ()),
            )
        ),
    ]


# ---- Beside torchvision --------------------------------------------------------------------------


def inputs(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = normal(name, 3, 24, 17, 23, dtype=dtype)
    boxes = of_images(name, 3, 40, 40, 60)
    boxes[:, 3:] = torch.maximum(boxes[:, 1:3] + 0.01, boxes[:, 3:])
    return x, boxes.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_agrees_with_torchvision(name: str, dtype: torch.dtype) -> None:
    x, boxes = inputs(name, dtype)
    for options in OPERATORS[name]:
        result = getattr(F, name)(x, boxes, (4, 3), *options)
        stock = getattr(TV, name)(x, boxes, (4, 3), *options)
        tolerance = 16 * torch.finfo(dtype).eps
        if name == "roi_pool":
            assert_bits(result, stock)
            indices = STOCK.roi_pool(x, boxes, options[0], 4, 3)[1]
            assert_bits(own.roi_pool_argmax(x, boxes, [4, 3], options[0]), indices)
        else:
            torch.testing.assert_close(result, stock, rtol=0, atol=tolerance)


def test_the_greatest_of_equal_ones_is_the_first_and_nan_is_none() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        x = torch.zeros(1, 4, 3, 3, dtype=dtype)
        x[0, 0, 1, 2], x[0, 1], x[0, 2] = NAN, NAN, -INF
        x[0, 3] = -0.0
        x[0, 3, 2, 1] = 0.0
        boxes = torch.tensor([[0, 0, 0, 2, 2], [0, 7, 7, 9, 9]], dtype=dtype)
        stock, indices = STOCK.roi_pool(x, boxes, 1.0, 1, 1)
        assert_bits(F.roi_pool(x, boxes, 1), stock)
        assert_bits(own.roi_pool_argmax(x, boxes, [1, 1], 1.0), indices)
        assert indices[0].flatten().tolist() == [0, -1, -1, 0]


def test_accuracy_is_stocks() -> None:
    x, boxes = inputs("accuracy")
    for name in ("roi_align", "ps_roi_align", "ps_roi_pool"):
        for options in OPERATORS[name]:
            arguments = (boxes, (4, 3), *options)
            exact = getattr(TV, name)(x.double(), boxes.double(), *arguments[1:])
            ours, stock = (
                (getattr(of, name)(x, *arguments) - exact).abs().mean().item() for of in (F, TV)
            )
            assert ours <= 1.5 * stock, (name, options)


# ---- Hostile regions -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_any_number_is_a_corner(name: str, dtype: torch.dtype) -> None:
    x, boxes = normal(name, 1, 12, 5, 4, dtype=dtype), hostile_regions(dtype)
    for options in OPERATORS[name][:: 4 if name == "roi_align" else 2]:
        expected = reference_roi.run(name, x, boxes, (2, 3), *options)
        assert_equals_at_each_level(
            lambda o=options: getattr(own, name)(x, boxes, [2, 3], *o), expected, str(options)
        )
    if name == "roi_pool":
        expected = reference_roi.run("roi_pool_argmax", x, boxes, (2, 3), 1.0)
        assert_equals_at_each_level(lambda: own.roi_pool_argmax(x, boxes, [2, 3], 1.0), expected)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_region_that_is_not_finite_is_nan(name: str) -> None:
    x = normal(name, 1, 4, 6, 6)
    for corner, value in itertools.product(range(1, 5), (NAN, INF, -INF)):
        boxes = torch.tensor([[0, 1.0, 1, 4, 4]])
        boxes[0, corner] = value
        assert getattr(F, name)(x, boxes, 2).isnan().all()
        if name == "roi_pool":
            assert (own.roi_pool_argmax(x, boxes, [2, 2], 1.0) == -1).all()


def test_a_huge_region_asks_for_no_more_than_its_input() -> None:
    """Of 2^30 points those inside are found, not tried: else this would not end."""
    x = normal("x", 1, 4, 50, 50)
    boxes = torch.tensor([[0, -1e9, -1e9, 1e9, 1e9], [0, 0, 0, 1e9, 1e9], [0, -1e30, 2, 1e30, 3]])
    for sampling in (-1, 65536):
        for result in (
            F.roi_align(x, boxes, 3, sampling_ratio=sampling),
            F.ps_roi_align(x, boxes, 2, sampling_ratio=sampling),
        ):
            assert result.isfinite().all()
    # The bin that holds all of the input has its mean, as far as so few points tell.
    middle = F.roi_align(x, boxes[:1], 1, sampling_ratio=-1)
    assert middle.abs().max() < x.abs().mean()
    assert_bits(F.roi_pool(x, boxes[:1], 1), x.amax((2, 3), keepdim=True))
    assert F.ps_roi_pool(x, boxes, 2).isfinite().all()


def test_inside_out_regions_have_no_points() -> None:
    """Where stock, as many points being asked for as there are pixels, fails or divides by zero."""
    x = normal("x", 1, 4, 6, 6)
    boxes = torch.tensor([[0, 5.0, 3, 2, 4], [0, 3, 3, 3, 3], [0, 5, 5, 2, 2]])
    assert_bits(F.roi_align(x, boxes, 2, aligned=True), torch.zeros(3, 4, 2, 2))
    assert_bits(F.ps_roi_align(x, boxes, 2), torch.zeros(3, 1, 2, 2))
    # With a number of points they run backward, as stock's do.
    stock = TV.roi_align(x, boxes, 2, 1.0, 2, True)
    torch.testing.assert_close(F.roi_align(x, boxes, 2, 1.0, 2, True), stock)


# ---- Invariance ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_a_region_does_not_know_of_others(name: str) -> None:
    x, boxes = normal(name, 4, 12, 9, 13), of_images(name, 4, 6, 9, 13)
    for options in OPERATORS[name][:4]:
        run = getattr(F, name)
        whole = run(x, boxes, (2, 3), *options)
        order = torch.from_numpy(generator(name).permutation(len(boxes)))
        assert_bits(run(x, boxes[order], (2, 3), *options), whole[order], "in another order")
        for k in range(len(boxes)):
            assert_bits(run(x, boxes[k : k + 1], (2, 3), *options), whole[k : k + 1], f"{k} alone")
        beside = x.clone()
        beside[1:] = NAN
        wild = torch.cat([boxes[:6], torch.tensor([[3, NAN, 0, INF, 1e30]])])
        assert_bits(run(beside, wild, (2, 3), *options)[:6], whole[:6], "beside NaN")


@pytest.mark.parametrize("name", [*OPERATORS, "roi_pool_argmax"])
def test_layouts_of_boxes_and_many_regions(name: str) -> None:
    """Many regions of a contiguous input have it copied; few read it where it lies."""
    x, boxes = normal(name, 2, 70 if "ps" not in name else 12, 9, 13), of_images(name, 2, 40, 9, 13)
    options = (1.0, 2, True)[: {"roi_align": 3, "ps_roi_align": 2}.get(name, 1)]
    expected = reference_roi.run(name, x, boxes, (2, 3), *options)
    run = getattr(own, name)
    for view_name, view in layouts(boxes):
        assert_bits(run(x, view, [2, 3], *options), expected, view_name)
    for view_name, view in layouts(x):
        for count in (1, 3, len(boxes)):
            result = run(view, boxes[:count], [2, 3], *options)
            assert_bits(result, expected[:count], f"{count}, {view_name}")
            assert result.is_contiguous()


def test_many_bins() -> None:
    x, boxes = normal("x", 1, 6, 5, 5), torch.tensor([[0, 0.5, -1, 4, 5.5]])
    for name in ("roi_align", "roi_pool", "roi_pool_argmax"):
        options = (1.0, 1, True) if name == "roi_align" else (1.0,)
        expected = reference_roi.run(name, x, boxes, (9, 15), *options)
        assert_equals_at_each_level(
            lambda n=name, o=options: getattr(own, n)(x, boxes, [9, 15], *o), expected
        )


def test_nothing() -> None:
    x, boxes = normal("x", 2, 4, 5, 6), of_images("boxes", 2, 2, 5, 6)
    for name in OPERATORS:
        run: Callable[..., Tensor] = getattr(F, name)
        channels = 1 if name in POSITIONED else 4
        assert run(x, boxes[:0], 2).shape == (0, channels, 2, 2)
        assert run(x, [], 2).shape == (0, channels, 2, 2)
        assert run(x[:0], boxes[:0], 2).shape == (0, channels, 2, 2)
        assert run(x[:, :0], boxes, 2).shape == (4, 0, 2, 2)


def test_boxes_may_be_listed_by_images() -> None:
    x, boxes = normal("x", 3, 4, 9, 8), of_images("boxes", 3, 2, 9, 8)
    listed = [boxes[:2, 1:], boxes[2:2, 1:], boxes[4:, 1:]]
    for name in OPERATORS:
        run = getattr(F, name)
        expected = run(x, torch.cat([boxes[:2], boxes[4:]]), 2)
        assert_bits(run(x, listed, 2), expected)
        assert_bits(run(x, tuple(listed), (2, 2)), expected)


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_an_index_is_that_of_an_image(name: str) -> None:
    x, boxes = normal("x", 2, 4, 5, 6), of_images("boxes", 2, 2, 5, 6)
    for index in (2.0, -1.0, NAN, INF, -INF, 1e30):
        wrong = boxes.clone()
        wrong[3, 0] = index
        with pytest.raises(RuntimeError, match=r"`boxes` has the index .* in row 3; it may be"):
            getattr(F, name)(x, wrong, 2)
    between = boxes.clone()
    between[:, 0] += torch.tensor([0.9, -0.9, 0.5, 0.0])  # rounded toward zero
    assert_bits(getattr(F, name)(x, between, 2), getattr(F, name)(x, boxes, 2))


@pytest.mark.parametrize("name", OPERATORS)
def test_errors_name_the_argument(name: str) -> None:
    good = {"input": normal("x", 2, 4, 5, 6), "boxes": of_images("b", 2, 2, 5, 6), "output_size": 2}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"input": good["input"][0]}, "input"),
        ({"input": good["input"][:, :, :0]}, "input"),
        ({"input": None}, "input"),
        ({"boxes": good["boxes"][:, 1:]}, "boxes"),
        ({"boxes": good["boxes"][0]}, "boxes"),
        ({"boxes": good["boxes"].double()}, "boxes"),
        ({"boxes": None}, "boxes"),
        ({"boxes": [good["boxes"]]}, r"boxes\[0\]"),
        ({"boxes": [good["boxes"][:, 1:], None]}, r"boxes\[1\]"),
        ({"boxes": [torch.zeros(0, 4, dtype=torch.bfloat16)] * 300}, "boxes"),
        ({"output_size": 0}, "output_size"),
        ({"output_size": (2, -1)}, "output_size"),
        ({"output_size": (2, 2, 2)}, "output_size"),
        ({"spatial_scale": "1"}, "spatial_scale"),
    ]
    if name in POSITIONED:
        changes.append(({"input": good["input"][:, :3]}, "input"))
    if name.endswith("align"):
        changes.append(({"sampling_ratio": 65537}, "sampling_ratio"))
    for changed, word in changes:
        with pytest.raises((RuntimeError, ValueError, TypeError), match=f"`{word}`"):
            getattr(F, name)(**{**good, **changed})


# ---- Any of them ---------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple:
    name = draw(st.sampled_from([*OPERATORS, "roi_pool_argmax"]))
    bins = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    channels = draw(st.integers(1, 5)) * (bins[0] * bins[1] if name in POSITIONED else 1)
    shape = (draw(st.integers(1, 3)), channels, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    options: tuple = (draw(st.sampled_from([1.0, 0.37, -1.0, 2.0])),)
    if name.endswith("align"):
        options += (draw(st.integers(-1, 4)),)
    if name == "roi_align":
        options += (draw(st.booleans()),)
    choices = st.tuples(
        st.integers(0, 50), st.integers(1, 3), st.sampled_from(reference_dtypes.FLOATING)
    )
    return name, shape, bins, options, draw(st.integers(0, 9)), draw(choices)


@settings(max_examples=60)
@given(problems())
def test_any_problem(problem: tuple) -> None:
    name, shape, bins, options, count, (layout, threads, dtype) = problem
    x = with_specials(normal(problem, *shape, dtype=dtype), problem, share=0.02)
    boxes = of_images(problem, shape[0], count, shape[2], shape[3]).to(dtype)
    boxes[:, 1:] = with_specials(boxes[:, 1:], problem, share=0.02)
    views = list(layouts(x))
    view_name, view = views[layout % len(views)]
    torch.set_num_threads(threads)
    expected = reference_roi.run(name, x, boxes, bins, *options)
    assert_equals_at_each_level(
        lambda: getattr(own, name)(view, boxes, bins, *options), expected, view_name
    )
