"""Max pooling is exact, average pooling is R3 over the elements of a window that exist."""

from __future__ import annotations

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
    normal,
    with_specials,
)


def numpy_pool(name: str, x: Tensor, *args, **options) -> Tensor:
    return getattr(reference_dtypes, name)(x, *args, **options)


def pool2d_case(
    name: str, label: str, shape, *args, dtype: torch.dtype = torch.float32, **options
) -> Case:
    return Case(
        f"{name}: {label}",
        shape,
        run=lambda x: getattr(F, name)(x, *args, **options),
        stock=lambda x: getattr(torch.nn.functional, name)(x, *args, **options),
        reference=lambda x: getattr(reference, name)(x, *args, **options),
        dtype=dtype,
    )


def pool1d_case(name: str, label: str, shape, *args, **options) -> Case:
    """The reference pools one row: kernel 1, stride 1, padding 0 and dilation 1 above it."""
    above = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    wide = {k: (above[k], v) if k in above else v for k, v in options.items()}
    wide_args = [(1, v) for v in args]

    def by_pool2d(x):
        name2d = name.replace("1d", "2d")
        return getattr(reference, name2d)(x[:, :, None], *wide_args, **wide)[:, :, 0]

    return Case(
        f"{name}: {label}",
        shape,
        run=lambda x: getattr(F, name)(x, *args, **options),
        stock=lambda x: getattr(torch.nn.functional, name)(x, *args, **options),
        reference=by_pool2d,
    )


WINDOWS = [
    ("2x2", (3, 5, 6, 8), {"kernel_size": 2}),
    ("3x3, stride 2, padding 1", (2, 19, 11, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (
        "ceil_mode",
        (2, 5, 7, 10),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    (
        "ceil_mode drops a window",
        (2, 3, 5, 4),
        {"kernel_size": 2, "stride": (3, 4), "padding": 1, "ceil_mode": True},
    ),
    ("stride above kernel", (2, 3, 13, 11), {"kernel_size": (2, 1), "stride": (5, 3)}),
    ("one pixel", (3, 1, 1, 1), {"kernel_size": 1}),
    ("padding around one pixel", (3, 33, 1, 1), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("kernel above input", (2, 3, 2, 3), {"kernel_size": (4, 5), "padding": (2, 1)}),
    ("whole input", (2, 17, 7, 7), {"kernel_size": 7}),
    ("8x9", (2, 5, 17, 19), {"kernel_size": (8, 9), "stride": (3, 2), "padding": (4, 0)}),
    ("many pixels", (2, 33, 40, 37), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("65x66", (2, 2, 66, 67), {"kernel_size": (65, 66), "stride": 1}),
]
OUTPUT_SIZES = [
    ("global", (3, 19, 7, 7), (1, 1)),
    ("global of one pixel", (3, 5, 1, 1), (1, 1)),
    ("global of 4900", (2, 3, 70, 70), (1, 1)),
    ("5x3", (2, 17, 11, 7), (5, 3)),
    ("larger than input", (2, 3, 4, 3), (7, 5)),
    ("same as input", (2, 3, 4, 3), (4, 3)),
    ("one row", (2, 9, 8, 6), (1, 4)),
]
DIVISORS = [
    {"count_include_pad": False},
    {"divisor_override": 3},
    {"divisor_override": -7, "count_include_pad": False},
]


class TestMaxPool2d(ContractTests):
    CASES = [pool2d_case("max_pool2d", label, shape, **o) for label, shape, o in WINDOWS] + [
        pool2d_case("max_pool2d", "dilation", (2, 5, 12, 10), 3, 2, 1, (2, 3)),
        pool2d_case("max_pool2d", "dilation, ceil_mode", (2, 5, 12, 10), 3, 2, 1, 2, True),
    ]


class TestAvgPool2d(ContractTests):
    CASES = [pool2d_case("avg_pool2d", label, shape, **o) for label, shape, o in WINDOWS] + [
        pool2d_case("avg_pool2d", f"{label}, {divisor}", shape, **o, **divisor)
        for label, shape, o in WINDOWS[1:4]
        for divisor in DIVISORS
    ]


class TestAdaptivePool2d(ContractTests):
    CASES = [
        pool2d_case(name, label, shape, size)
        for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d")
        for label, shape, size in OUTPUT_SIZES
    ]


class TestPoolDtypes(ContractTests):
    CASES = [
        pool2d_case(name, label, shape, dtype=dtype, **options)
        for dtype in reference_dtypes.OTHERS
        for label, shape, options in (WINDOWS[1], WINDOWS[7])
        for name in ("max_pool2d", "avg_pool2d")
    ] + [
        pool2d_case(name, "5x3", (2, 17, 11, 7), (5, 3), dtype=dtype)
        for dtype in reference_dtypes.OTHERS
        for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d")
    ]


class TestPool1d(ContractTests):
    CASES = [
        pool1d_case(name, label, shape, **options)
        for name in ("max_pool1d", "avg_pool1d")
        for label, shape, options in [
            ("2", (3, 5, 9), {"kernel_size": 2}),
            ("padded", (2, 19, 10), {"kernel_size": 3, "stride": 2, "padding": 1}),
            (
                "ceil_mode",
                (2, 5, 10),
                {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True},
            ),
        ]
    ] + [
        pool1d_case("max_pool1d", "dilation", (2, 5, 12), kernel_size=3, stride=1, dilation=2),
        pool1d_case(
            "avg_pool1d",
            "without padding",
            (2, 5, 12),
            kernel_size=3,
            padding=1,
            count_include_pad=False,
        ),
        *(
            pool1d_case(name, str(size), (2, 7, 10), size)
            for name in ("adaptive_avg_pool1d", "adaptive_max_pool1d")
            for size in (1, 4, 13)
        ),
    ]


def test_output_size_may_leave_a_dimension_as_it_is() -> None:
    x = normal("x", 2, 3, 8, 9)
    for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        pool = getattr(F, name)
        assert_bits(pool(x, (None, 4)), numpy_pool(name, x, (8, 4)))
        assert_bits(pool(x, 3), numpy_pool(name, x, (3, 3)))


MAX_POOLS = {
    "max_pool2d": lambda v: F.max_pool2d(v, (1, 2)),
    "padded": lambda v: F.max_pool2d(v, 3, padding=1),
    "adaptive": lambda v: F.adaptive_max_pool2d(v, (3, 1)),
}


@pytest.mark.parametrize("dtype", reference_dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("pool", MAX_POOLS)
@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ((-0.0, 0.0), 0.0),
        ((0.0, -0.0), 0.0),
        ((-0.0, -0.0), -0.0),
        ((NAN, 1.0), NAN),
        ((1.0, NAN), NAN),
        ((INF, NAN), NAN),
        ((-INF, -INF), -INF),
        ((-INF, -6e4), -6e4),
        ((1e-45, -1e-45), 1e-45),
    ],
)
def test_max_of_two(
    pair: tuple[float, float], expected: float, pool: str, dtype: torch.dtype
) -> None:
    """Also where vectors end: 19 channels, 3 rows."""
    x = torch.tensor(pair, dtype=dtype).view(1, 1, 1, 2).expand(2, 19, 3, 2)
    for name, view in layouts(x):
        for _, result in at_each_level(lambda v=view: MAX_POOLS[pool](v)):
            assert_bits(result, torch.full_like(result, expected), name)


def test_window_without_elements() -> None:
    """Dilation may step over the whole input: what is left is the padding, -inf."""
    x = normal("x", 1, 2, 1, 5)
    options = {"kernel_size": (2, 1), "padding": (1, 0), "dilation": (2, 1)}
    expected = torch.nn.functional.max_pool2d(x, **options)
    assert (expected == -INF).all()
    assert_equals_at_each_level(lambda: F.max_pool2d(x, **options), expected)


def test_average_of_negative_zeros_is_positive() -> None:
    x = torch.full((2, 19, 4, 4), -0.0)
    for pool in (lambda v: F.avg_pool2d(v, 2), lambda v: F.adaptive_avg_pool2d(v, 1)):
        for _, view in layouts(x):
            for _, result in at_each_level(lambda p=pool, v=view: p(v)):
                assert (result == 0).all() and not result.signbit().any()


def test_average_of_one_element_is_divided_all_the_same() -> None:
    x = torch.full((1, 1, 1, 1), 1e-45)
    assert F.avg_pool2d(x, 1, divisor_override=2).item() == 0
    assert F.avg_pool2d(x, 3, padding=1).item() == 0
    assert F.avg_pool2d(x, 3, padding=1, count_include_pad=False).item() == x.item()


def test_infinity_in_a_window() -> None:
    x = torch.zeros(1, 19, 4, 4)
    x[:, :, 0, 0], x[:, :, 1, 1], x[:, :, 3, 3] = INF, -INF, INF
    for _, view in layouts(x):
        for _, result in at_each_level(lambda v=view: F.avg_pool2d(v, 2)):
            assert result[0, :, 0, 0].isnan().all() and (result[0, :, 1, 1] == INF).all()
            assert (result[0, :, 0, 1] == 0).all()


def test_large_batch() -> None:
    x = normal("x", 65537, 2, 2, 2)
    for name, args in (
        ("avg_pool2d", (2, 1, 1)),
        ("max_pool2d", (2,)),
        ("adaptive_avg_pool2d", ((1, 1),)),
    ):
        for _, view in list(layouts(x))[:2]:
            assert_bits(getattr(F, name)(view, *args), numpy_pool(name, x, *args))


def test_unbatched_input() -> None:
    x = normal("x", 3, 6, 5)
    for name, args in (
        ("avg_pool2d", (2,)),
        ("max_pool2d", (2,)),
        ("adaptive_avg_pool2d", ((2, 1),)),
        ("adaptive_max_pool2d", ((2, 1),)),
    ):
        assert_bits(getattr(F, name)(x, *args), numpy_pool(name, x[None], *args)[0])


@st.composite
def problems(draw: st.DrawFn) -> tuple:
    def two(low: int, high: int) -> tuple[int, int]:
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, least = two(1, 6), two(1, 12)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(n, k - 2 * p) for n, k, p in zip(least, kernel, padding, strict=True))
    options = {"kernel_size": kernel, "stride": two(1, 4), "padding": padding}
    options["ceil_mode"] = draw(st.booleans())
    channels = draw(st.sampled_from([1, 3, 8, 17, 33]))
    choices = st.tuples(
        st.integers(0, 50),
        st.integers(1, 3),
        st.booleans(),
        st.sampled_from([None, 1, 5]),
        st.sampled_from(reference_dtypes.FLOATING),
    )
    return (draw(st.integers(1, 3)), channels, *size), options, draw(choices)


@settings(max_examples=90)
@given(problems())
def test_any_problem(problem: tuple) -> None:
    shape, options, (layout, threads, count_include_pad, divisor, dtype) = problem
    x = with_specials(normal(problem, *shape, dtype=dtype), problem, share=0.02)
    views = list(layouts(x))
    layout_name, view = views[layout % len(views)]
    torch.set_num_threads(threads)
    average = {"count_include_pad": count_include_pad, "divisor_override": divisor}
    for name, more in (("max_pool2d", {}), ("avg_pool2d", average)):
        assert_equals_at_each_level(
            lambda n=name, m=more: getattr(F, n)(view, **options, **m),
            numpy_pool(name, x, **options, **more),
            f"{name}, {layout_name}",
        )
