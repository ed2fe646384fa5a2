"""Sampling at the points of a grid is R8, an affine map's grid R1."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bninv
import bninv.functional as F
from tests.support import reference_dtypes, reference_grid
from tests.support.properties import (
    INF,
    NAN,
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    layouts,
    normal,
    with_specials,
)

TF = torch.nn.functional
PADDING_MODES = ("zeros", "border", "reflection")


def grid_of(shape, points, dtype: torch.dtype) -> Tensor:
    """One sample's, that reaches outside."""
    return normal(points, 1, *points, len(shape) - 2, dtype=dtype) * 1.1


def case(label: str, shape, points, dtype: torch.dtype = torch.float32, **options) -> Case:
    grid = grid_of(shape, points, dtype)
    options.setdefault("align_corners", False)

    def reference(x):
        own = torch.from_numpy(x).to(dtype)
        every = grid.expand(len(own), *grid.shape[1:])
        return reference_grid.sampled(
            x,
            reference_dtypes.widened(every, dtype),
            options.get("mode", "bilinear"),
            options.get("padding_mode", "zeros"),
            options["align_corners"],
        )

    def run(function, x: Tensor) -> Tensor:
        return function(x, grid.expand(len(x), *grid.shape[1:]), **options)

    def stock(x: Tensor) -> Tensor:
        if len(x) == 0 or x.dtype not in reference_dtypes.NARROW:
            return run(TF.grid_sample, x)
        wide = grid.float().expand(len(x), *grid.shape[1:])
        return TF.grid_sample(x.float(), wide, **options).to(x.dtype)

    return Case(
        label,
        shape,
        run=lambda x: run(F.grid_sample, x),
        stock=stock,
        reference=reference,
        dtype=dtype,
    )


IMAGE, POINTS = (2, 5, 6, 7), (3, 19)
VOLUME, POINTS_IN_VOLUME = (2, 3, 3, 4, 5), (2, 3, 9)


class TestGridSample(ContractTests):
    CASES = [
        case(
            f"{mode}, {padding}{', corners aligned' * align}",
            IMAGE,
            POINTS,
            mode=mode,
            padding_mode=padding,
            align_corners=align,
        )
        for mode, padding, align in (
            ("bilinear", "zeros", False),
            ("bilinear", "border", True),
            ("bilinear", "reflection", False),
            ("nearest", "zeros", False),
            ("nearest", "reflection", True),
            ("bicubic", "zeros", True),
            ("bicubic", "border", False),
            ("bicubic", "reflection", True),
        )
    ] + [
        case("one pixel", (2, 3, 1, 1), (2, 5), padding_mode="reflection", align_corners=True),
        case("a volume", VOLUME, POINTS_IN_VOLUME),
        case("a volume, nearest", VOLUME, POINTS_IN_VOLUME, mode="nearest"),
        case("a volume, border", VOLUME, POINTS_IN_VOLUME, padding_mode="border"),
        *(
            case("bilinear", IMAGE, POINTS, dtype, padding_mode="border")
            for dtype in reference_dtypes.OTHERS
        ),
    ]


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_any_number_is_a_coordinate(mode: str) -> None:
    """Halves, edges, far outside, infinite, NaN: where stock leaves it open R8 does not."""
    numbers = [-1.0, 1.0, 0.0, -0.0, 1 / 3, 0.5, -1.25, 1.75, 3.0, -7.1, 0.2]
    numbers += [1e9, -1e20, 3e38, NAN, INF, -INF]
    for dtype, size in ((torch.float32, (4, 5)), (torch.float64, (1, 2))):
        # Each beside another one along the other dimension.
        pairs = torch.tensor(list(zip(numbers, numbers[::-1], strict=True)), dtype=dtype)
        x = normal("x", 1, 2, *size, dtype=dtype)
        for padding, align in itertools.product(PADDING_MODES, (False, True)):
            arguments = (x, pairs[None, None], mode, padding, align)
            assert_equals_at_each_level(
                lambda a=arguments: F.grid_sample(*a),
                reference_grid.grid_sample(*arguments),
                f"{padding}, {align}",
            )


def test_nearest_takes_what_pytorch_takes() -> None:
    x = torch.arange(7 * 9.0).view(1, 1, 7, 9)
    grid = normal("grid", 1, 40, 50, 2) * 1.3
    for padding, align in itertools.product(PADDING_MODES, (False, True)):
        own = F.grid_sample(x, grid, "nearest", padding, align)
        assert (own == TF.grid_sample(x, grid, "nearest", padding, align)).float().mean() > 0.999
        exact = TF.grid_sample(x.double(), grid.double(), "nearest", padding, align)
        assert (own == exact).float().mean() > 0.999


def test_samples_have_grids_of_their_own() -> None:
    x, grid = normal("x", 5, 3, 6, 7), normal("grid", 5, 4, 9, 2)
    for mode, padding in itertools.product(("bilinear", "nearest", "bicubic"), PADDING_MODES):
        whole = F.grid_sample(x, grid, mode, padding)
        beside = x.clone(), grid.clone()
        beside[0][1:], beside[1][1:] = NAN, INF
        assert_bits(F.grid_sample(*beside, mode, padding)[:1], whole[:1])
        for i in range(5):
            assert_bits(F.grid_sample(x[i : i + 1], grid[i : i + 1], mode, padding)[0], whole[i])
        for name, view in layouts(grid):
            assert_bits(F.grid_sample(x, view, mode, padding), whole, name)


def test_what_is_no_tap_has_no_effect() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = INF
    grid = torch.tensor([-0.9, -0.9]).view(1, 1, 1, 2)
    for mode, padding in itertools.product(("bilinear", "nearest", "bicubic"), PADDING_MODES):
        assert F.grid_sample(x, grid, mode, padding).item() == 0


def test_accuracy_is_stocks() -> None:
    x, grid = normal("x", 3, 8, 31, 29), normal("grid", 3, 40, 41, 2) * 0.7
    for mode, padding in itertools.product(("bilinear", "bicubic"), PADDING_MODES):
        arguments = (mode, padding, False)
        exact = TF.grid_sample(x.double(), grid.double(), *arguments)
        own, stock = (
            (function(x, grid, *arguments) - exact).abs().mean().item()
            for function in (F.grid_sample, TF.grid_sample)
        )
        assert own <= 2 * stock, arguments


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
def test_affine_grid(align_corners: bool, dtype: torch.dtype) -> None:
    for size in ((3, 1, 5, 7), (3, 2, 1, 4), (1, 1, 1, 1), (2, 1, 3, 4, 5), (2, 1, 1, 2, 1)):
        spatial = len(size) - 2
        theta = normal(size, size[0], spatial, spatial + 1, dtype=dtype)
        expected = reference_grid.affine_grid(theta, size, align_corners)
        for name, view in layouts(theta):
            assert_equals_at_each_level(
                lambda v=view, s=size: F.affine_grid(v, s, align_corners), expected, name
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stock = TF.affine_grid(theta.double(), size, align_corners)
        tolerance = {torch.float32: 1e-6, torch.float64: 1e-14}.get(dtype, 3e-2)
        torch.testing.assert_close(expected.double(), stock, rtol=tolerance, atol=tolerance)
        for i in range(size[0]):
            one = F.affine_grid(theta[i : i + 1], (1, *size[1:]), align_corners)
            assert_bits(one[0], expected[i])


def test_of_pytorchs_functions_none_is_uncovered() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor, theta: Tensor) -> Tensor:
            grid = TF.affine_grid(theta, [2, 3, 5, 4], align_corners=False)
            y = TF.grid_sample(x, grid, align_corners=False)
            y = torch.grid_sampler(y, grid, 2, 1, True)
            grid = torch.ops.aten.affine_grid_generator(theta, [2, 3, 5, 4], True)
            return TF.grid_sample(y, grid, "nearest", padding_mode="reflection", align_corners=True)

    model = bninv.patch(Model().eval())
    x, theta = normal("x", 2, 3, 6, 7), normal("theta", 2, 2, 3)
    with torch.no_grad():
        grid = F.affine_grid(theta, (2, 3, 5, 4))
        y = F.grid_sample(x, grid)
        y = F.grid_sample(y, grid, "bicubic", "border", True)
        grid = F.affine_grid(theta, (2, 3, 5, 4), True)
        expected = F.grid_sample(y, grid, "nearest", "reflection", True)
        assert_bits(model(x, theta), expected)
    assert list(bninv.uncovered(model)) == []


def test_errors_name_the_argument() -> None:
    x, grid = normal("x", 2, 3, 4, 5), normal("grid", 2, 6, 7, 2)
    for changed, word in (
        ({"input": x[0]}, "input"),
        ({"input": x[:, :, :0]}, "input"),
        ({"grid": grid[:1]}, "grid"),
        ({"grid": grid[..., :1]}, "grid"),
        ({"grid": grid.double()}, "grid"),
        ({"grid": None}, "grid"),
        ({"mode": "linear"}, "mode"),
        ({"padding_mode": "circular"}, "padding_mode"),
        (
            {
                "input": normal("v", 2, 1, 2, 3, 4),
                "grid": normal("g", 2, 1, 1, 1, 3),
                "mode": "bicubic",
            },
            "mode",
        ),
    ):
        with pytest.raises((RuntimeError, TypeError), match=rf"`{word}`"):
            F.grid_sample(**{"input": x, "grid": grid, **changed})
    theta = normal("theta", 2, 2, 3)
    for arguments, word in (
        ((theta, (2, 3, 4)), "size"),
        ((theta, (2, 3, 0, 4)), "size"),
        ((theta, (1, 3, 4, 4)), "theta"),
        ((theta, (2, 3, 4, 4, 4)), "theta"),
        ((None, (2, 3, 4, 4)), "theta"),
    ):
        with pytest.raises((ValueError, TypeError), match=rf"`{word}`"):
            F.affine_grid(*arguments)


@st.composite
def problems(draw: st.DrawFn) -> tuple:
    spatial = draw(st.sampled_from([2, 2, 3]))
    sizes = st.lists(st.integers(1, 6), min_size=spatial, max_size=spatial)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), *draw(sizes))
    points = (*draw(sizes)[1:], draw(st.integers(1, 20)))
    modes = ["bilinear", "nearest", "bicubic"][: 3 if spatial == 2 else 2]
    options = (
        draw(st.sampled_from(modes)),
        draw(st.sampled_from(PADDING_MODES)),
        draw(st.booleans()),
    )
    choices = st.tuples(
        st.integers(0, 50), st.integers(1, 3), st.sampled_from(reference_dtypes.FLOATING)
    )
    return shape, points, options, draw(choices)


@settings(max_examples=50)
@given(problems())
def test_any_problem(problem: tuple) -> None:
    shape, points, options, (layout, threads, dtype) = problem
    x = with_specials(normal(problem, *shape, dtype=dtype), problem, share=0.02)
    grid = normal(problem, shape[0], *points, len(shape) - 2, dtype=dtype)
    grid = with_specials(grid, problem, share=0.02)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    torch.set_num_threads(threads)
    expected = reference_grid.grid_sample(x, grid, *options)
    assert_equals_at_each_level(lambda: F.grid_sample(view, grid, *options), expected, name)
