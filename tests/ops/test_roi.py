"""Regions of images are R10, and torchvision's numbers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bninv
import bninv.functional as F
from tests.support import reference_dtypes, reference_roi
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
POSITIONED = ("ps_roi_align", "ps_roi_pool")


def corners(label: object, count: int, height: float, width: float) -> Tensor:
    """Of boxes in an image and around it, a few of them tiny and a few inside out."""
    rng = generator(label)
    size = torch.tensor([width, height])
    start = torch.from_numpy(rng.uniform(-0.2, 1, (count, 2))).float() * size
    length = torch.from_numpy(rng.uniform(-0.1, 0.9, (count, 2))).float() * size
    return torch.cat([start, start + length], 1)


def of_images(label: object, images: int, each: int, height: float, width: float) -> Tensor:
    """Boxes of every image, with indices."""
    boxes = corners(label, images * each, height, width)
    indices = torch.arange(images).repeat_interleave(each)[:, None].float()
    return torch.cat([indices, boxes], 1)


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

OPERATORS: dict[str, list[tuple[Any, ...]]] = {
    "roi_align": [
        (scale, sampling, aligned)
        for scale, sampling, aligned in itertools.product((1.0, 0.3), (-1, 1, 2, 3), (False, True))
    ],
    "ps_roi_align": list(itertools.product((1.0, 0.3), (-1, 2, 3))),
    "roi_pool": [(1.0,), (0.3,)],
    "ps_roi_pool": [(1.0,), (0.3,)],
}


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

NUMBERS = [0.0, -0.0, 3.0, 2.5, 0.49999997, -7.5, 5.0, 4.0, -1.0, 1e9, -1e9, 2e5, 3e38, -3e38]
NUMBERS += [NAN, INF, -INF, 1e-40]


def hostile(dtype: torch.dtype) -> Tensor:
    """Each number at each corner beside others."""
    rng = generator("hostile")
    rows = [
        [0, *rng.choice(NUMBERS, corner), number, *rng.choice(NUMBERS, 3 - corner)]
        for number in NUMBERS
        for corner in range(4)
        for _ in range(3)
    ]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_any_number_is_a_corner(name: str, dtype: torch.dtype) -> None:
    x, boxes = normal(name, 1, 12, 5, 4, dtype=dtype), hostile(dtype)
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


def test_a_huge_region_takes_no_longer_than_its_input() -> None:
    x = normal("x", 1, 4, 50, 50)
    boxes = torch.tensor([[0, -1e9, -1e9, 1e9, 1e9], [0, 0, 0, 1e9, 1e9], [0, -1e30, 2, 1e30, 3]])
    start = time.perf_counter()
    for sampling in (-1, 65536):
        F.roi_align(x, boxes, 3, sampling_ratio=sampling)
        F.ps_roi_align(x, boxes, 2, sampling_ratio=sampling)
    F.roi_pool(x, boxes, 3)
    F.ps_roi_pool(x, boxes, 2)
    assert time.perf_counter() - start < 5


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


# ---- In models -----------------------------------------------------------------------------------


class Heads(nn.Module):
    """Every way that torchvision offers to the four operators."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = TV.MultiScaleRoIAlign(["0", "1"], 3, 2)
        self.align, self.pool = TV.RoIAlign(2, 0.5, -1, True), TV.RoIPool(2, 0.5)
        self.ps_align, self.ps_pool = TV.PSRoIAlign(2, 0.5, 2), TV.PSRoIPool(2, 0.5)

    def forward(self, x: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        levels = {"0": x, "1": x[:, :, ::2, ::2].contiguous()}
        return [
            self.levels(levels, boxes, [(32, 48)] * len(boxes)),
            *(
                module(x, boxes).flatten(1)
                for module in (self.align, self.pool, self.ps_align, self.ps_pool)
            ),
            STOCK.ps_roi_align.default(
                x, TV._utils.convert_boxes_to_roi_format(boxes), 0.5, 2, 2, 2
            )[1],
        ]


def test_of_torchvisions_operators_none_is_uncovered() -> None:
    model = bninv.patch(Heads().eval())
    x = normal("x", 2, 8, 16, 24)
    boxes = [corners(i, 5, 32, 48).abs() for i in range(2)]
    for own_boxes in boxes:
        own_boxes[:, 2:] += own_boxes[:, :2]
    with torch.no_grad():
        results = model(x, boxes)
        stock = Heads()(x, boxes)
    assert not [call for call in bninv.uncovered(model) if "torchvision" in call.operator]
    for result, expected in zip(results, stock, strict=True):
        torch.testing.assert_close(result, expected)
    assert_bits(results[1], F.roi_align(x, boxes, 2, 0.5, -1, True).flatten(1))
    assert_bits(results[3], F.ps_roi_align(x, boxes, 2, 0.5, 2).flatten(1))
    with torch.no_grad():
        for i in range(2):
            for alone, whole in zip(model(x[i : i + 1], boxes[i : i + 1]), results, strict=True):
                assert_bits(alone, whole[5 * i : 5 * i + 5])


def test_a_strict_scope_sees_the_operators() -> None:
    x, boxes = normal("x", 2, 8, 16, 24), of_images("boxes", 2, 3, 16, 24)
    expected = F.roi_pool(x, boxes, 2), own.roi_pool_argmax(x, boxes, [2, 2], 1.0)
    with bninv.invariant(strict=True), torch.no_grad():
        results = STOCK.roi_pool(x, boxes, 1.0, 2, 2)
        STOCK.roi_align.default(x, boxes, 1.0, 2, 2, -1, False)
    for result, value in zip(results, expected, strict=True):
        assert_bits(result, value)


@pytest.mark.filterwarnings("ignore::bninv.NotInvariantWarning")  # of what selects the boxes
def test_a_detector_lists_none_of_them() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 8, 1), nn.ReLU())
    backbone.out_channels = 8  # type: ignore[assignment]
    stock = torchvision.models.detection.FasterRCNN(
        backbone,
        num_classes=3,
        rpn_anchor_generator=torchvision.models.detection.rpn.AnchorGenerator(
            ((32, 64),), ((1.0,),)
        ),
        box_roi_pool=TV.MultiScaleRoIAlign(["0"], 3, 2),
        box_score_thresh=0.0,
        min_size=64,
        max_size=96,
    ).eval()
    model = bninv.patch(stock)
    with torch.no_grad():
        found = model([normal("image", 3, 64, 80)])
    assert len(found[0]["boxes"]) > 0
    assert not [call for call in bninv.uncovered(model) if "roi" in call.operator]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_autocast_casts_as_torchvisions(dtype: torch.dtype) -> None:
    """roi_align alone, on the CPU: in float32, and back."""
    x, boxes = normal("x", 2, 4, 9, 8), of_images("boxes", 2, 3, 9, 8)
    for name in OPERATORS:
        narrow = x.to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            if name != "roi_align":
                result = getattr(F, name)(narrow, boxes.to(dtype), 2)
                assert_bits(
                    result,
                    getattr(own, name)(
                        narrow,
                        boxes.to(dtype),
                        [2, 2],
                        1.0,
                        *([-1] if name == "ps_roi_align" else []),
                    ),
                )
                continue
            stock = TV.roi_align(narrow, boxes, 2)
            result = F.roi_align(narrow, boxes, 2)
            with bninv.invariant(strict=True):
                assert_bits(STOCK.roi_align(narrow, boxes, 1.0, 2, 2, -1, False), result)
        assert result.dtype == stock.dtype == dtype
        wide = F.roi_align(narrow.float(), boxes, 2)
        assert_bits(result, wide.to(dtype))
        torch.testing.assert_close(result, stock)


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
