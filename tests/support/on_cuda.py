"""CUDA's bits beside the CPU's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.support.emulated import run
from tests.support.properties import assert_bits, layouts, normal


def drawn_convolution(
    draw: Callable[..., Any],
    channels: int,
    out: int,
    groups: int,
    dtypes: Sequence[torch.dtype],
) -> tuple[str, Tensor, list[Any]]:
    """A layout by name, an input in it and conv2d's other arguments, of small awkward sizes."""
    small = st.integers(1, 3)
    kernel = [draw(small), draw(small)]
    args = [
        normal("w", out, channels // groups, *kernel),
        normal("b", out) if draw(st.booleans()) else None,
        [draw(small), draw(small)],
        [draw(st.integers(0, 2)), draw(st.integers(0, 2))],
        [draw(small), draw(small)],
        groups,
    ]
    size = [max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, args[4], args[3])]
    extra = st.integers(0, 6)
    x = normal("x", draw(small), channels, size[0] + draw(extra), size[1] + draw(extra))
    dtype = draw(st.sampled_from(dtypes))
    args[:2] = [v if v is None else v.to(dtype) for v in args[:2]]
    views = list(layouts(x.to(dtype)))
    name, view = views[draw(st.integers(0, len(views) - 1))]
    return name, view, args


def assert_as_cpu(device: str, name: str, x: Tensor, *args: Any, message: str = "") -> Tensor:
    """Bits and strides of operator `name` on `device`; nothing is written to the input."""
    before = x.clone()
    actual, expected = run(device, name, x, *args), run("cpu", name, x, *args)
    message = f"{name} of {tuple(x.shape)}, {x.dtype}, {args[:1]}: {message}"
    assert_bits(actual, expected, message)
    assert actual.stride() == expected.stride(), message
    assert_bits(x, before, message)
    return actual
