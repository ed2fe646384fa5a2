"""3-d pooling: maxima are exact, averages are R3 over the elements of a window that exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import bninv.functional as F
from tests.support import reference_dtypes, reference_pool3d
from tests.support.properties import (
    Case,
    ContractTests,
    assert_bits,
    assert_equals_at_each_level,
    flags,
    layouts,
    normal,
    with_specials,
)


def case(name: str, label: str, shape: Any, *args: Any, **options: Any) -> Case:
    dtype = options.pop("dtype", torch.float32)
    return Case(
        f"{name}: {label}",
        shape,
        run=lambda x: getattr(F, name)(x, *args, **options),
        stock=lambda x: getattr(torch.nn.functional, name)(x, *args, **options),
        reference=lambda x: getattr(reference_pool3d, name)(x, *args, **options),
        dtype=dtype,
    )


WINDOWS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("2", (2, 5, 4, 6, 3), {"kernel_size": 2}),
    ("3, 2, 1", (2, 19, 5, 4, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (
        "uneven, ceil_mode",
        (2, 17, 3, 7, 6),
        {"kernel_size": (1, 3, 4), "stride": (1, 2, 3), "padding": (0, 1, 2), "ceil_mode": True},
    ),
    ("kernel above input", (2, 3, 2, 1, 3), {"kernel_size": (4, 3, 5), "padding": (2, 1, 2)}),
    ("7", (1, 4, 8, 7, 7), {"kernel_size": 7, "stride": 1}),
]
OUTPUT_SIZES = [
    ("global", (2, 19, 2, 7, 7), (1, 1, 1)),
    ("2x3x1", (2, 5, 5, 4, 3), (2, 3, 1)),
    ("larger than input", (2, 3, 2, 3, 1), (3, 5, 2)),
    ("5000", (1, 2, 10, 25, 20), (1, 1, 1)),
]


class TestPool3d(ContractTests):
    CASES = [
        *(case("max_pool3d", label, shape, **options) for label, shape, options in WINDOWS),
        case("max_pool3d", "dilation", (2, 5, 5, 6, 5), 2, 1, 1, (3, 1, 2)),
        *(case("avg_pool3d", label, shape, **options) for label, shape, options in WINDOWS),
        case("avg_pool3d", "without padding", *WINDOWS[1][1:2], 3, 2, 1, False, False),
        case("avg_pool3d", "divisor", *WINDOWS[2][1:2], 3, 2, 1, True, True, 7),
        *(
            case(name, label, shape, size)
            for name in ("adaptive_avg_pool3d", "adaptive_max_pool3d")
            for label, shape, size in OUTPUT_SIZES
        ),
        *(
            case(name, label, shape, dtype=dtype, **options)
            for dtype in reference_dtypes.OTHERS
            for label, shape, options in WINDOWS[2:3]
            for name in ("max_pool3d", "avg_pool3d")
        ),
    ]

    def test_is_close_to_stock(self, case: Case) -> None:
        if "avg_pool3d: kernel above" in case.label:
            pytest.skip("stock refuses an average over more than the input")
        if "avg" in case.label and case.dtype in (torch.float16, torch.bfloat16):
            pytest.skip("stock has no kernel for it")
        super().test_is_close_to_stock(case)

    def test_output_memory_format_is_torchs(self, case: Case) -> None:
        """Stock's is contiguous now and then; here it is always the input's."""
        for name, x in list(layouts(case.input))[:2]:
            assert flags(case.run(x))[flags(x).index(True)], name


def test_output_size_may_leave_a_dimension_as_it_is() -> None:
    x = normal("x", 2, 3, 4, 5, 6)
    assert_bits(F.adaptive_avg_pool3d(x, (None, 2, 3)), F.adaptive_avg_pool3d(x, (4, 2, 3)))
    assert_bits(F.adaptive_max_pool3d(x[0], 2), F.adaptive_max_pool3d(x, (2, 2, 2))[0])


def test_opcheck() -> None:
    x = normal("x", 2, 4, 4, 5, 3)
    for v in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        window = [[2, 3, 1], [1, 2, 1], [1, 0, 0]]
        torch.library.opcheck(torch.ops.bninv.max_pool3d.default, (v, *window, [1, 1, 2], True))
    torch.library.opcheck(torch.ops.bninv.avg_pool3d.default, (x, *window, True, False, None))
    torch.library.opcheck(torch.ops.bninv.adaptive_avg_pool3d.default, (x, [1, 2, 3]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` is \\[0, 0, 0\\]; it may be three integers"),
        ({"stride": 0}, "`stride` is .* at least 1"),
        ({"padding": 2}, "`padding` is .* half of `kernel_size`"),
        ({"kernel_size": 9}, "`kernel_size` 9 .* reaches over more"),
        ({"divisor_override": 0}, "`divisor_override` is 0"),
        ({"input": torch.zeros(2, 3)}, "`input` has shape"),
    ],
)
def test_errors(changed: dict[str, Any], message: str) -> None:
    arguments = {"input": torch.zeros(1, 2, 4, 4, 4), "kernel_size": 2}
    with pytest.raises((ValueError, RuntimeError), match=message):
        F.avg_pool3d(**{**arguments, **changed})


triples = st.lists(st.integers(1, 4), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(triples, triples, triples, triples, st.integers(1, 20), st.booleans(), st.integers(0, 30))
def test_any_window(
    size: list[int],
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    channels: int,
    flag: bool,
    layout: int,
) -> None:
    padding = [k // 2 * flag for k in kernel]
    assume(all(k <= n + 2 * p for k, n, p in zip(kernel, size, padding, strict=True)))
    x = with_specials(normal("x", 2, channels, *size), share=0.02)
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    average = (kernel, stride, padding, flag, not flag, None)
    expected = torch.from_numpy(reference_pool3d.avg_pool3d(x.numpy(), *average))
    assert_equals_at_each_level(lambda: F.avg_pool3d(view, *average), expected, name)
    dilation = [
        d if d * (k - 1) < n + 2 * p else 1
        for d, k, n, p in zip(dilation, kernel, size, padding, strict=True)
    ]
    largest = (kernel, stride, padding, dilation, flag)
    expected = torch.from_numpy(reference_pool3d.max_pool3d(x.numpy(), *largest))
    assert_equals_at_each_level(lambda: F.max_pool3d(view, *largest), expected, name)
