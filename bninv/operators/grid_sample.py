"""Sampling at the points of a grid, rule R8, and the grid of an affine map, rule R1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor
from bninv._autocast import without
from bninv._shown import shown
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, cast_tensors, ops
from bninv.operators.draw import Draw
from bninv.operators.linear import linear
from bninv.operators.operator import Operator

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the points of a grid, rule R8. The result is contiguous.

    Args:
        input: [batch, channels, height, width] or [batch, channels, depth, height, width].
        grid: [batch, out_height, out_width, 2] or [batch, out_depth, out_height, out_width, 3], of
            the input's dtype: coordinates along the width, the height and the depth from -1 to 1.
        mode: 'bilinear' (of volumes trilinear), 'nearest' or, of images, 'bicubic'.
        padding_mode: what lies outside: 'zeros', 'border' or 'reflection'.
        align_corners: None is False.
    """
    need_tensor("input", input)
    need_tensor("grid", grid)
    input, grid = cast_tensors("grid_sampler", input, grid)
    result: Tensor = call(
        ops.grid_sample.default, input, grid, mode, padding_mode, bool(align_corners)
    )
    return result


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid of an affine map, for `grid_sample`.

    A coordinate is a product by rule R1 of a row of `theta` and the point (x, y, 1), of volumes
    (x, y, z, 1). The point's coordinates are `(2 * i + 1 - n) / (n - 1)` with `align_corners`, else
    `(2 * i + 1 - n) / n`, one division in the arithmetic type; 0 for n = 1.

    Args:
        theta: [batch, 2, 3] or [batch, 3, 4].
        size: the output's: [batch, channels, height, width] or [batch, channels, depth, height,
            width].
        align_corners: None is False.

    Raises:
        ValueError: `size` is of other lengths, or `theta`'s shape does not fit it.
    """
    need_tensor("theta", theta)
    dims = len(size) if isinstance(size, Sequence) else 0
    if dims not in (4, 5):
        raise ValueError(f"`size` is {shown(size)}; it may be 4 or 5 integers")
    batch, _, *spatial = sizes = integers(list(size), dims, "size")
    if min(sizes) < 1:
        raise ValueError(f"`size` is {shown(size)}; it may hold integers of at least 1")
    if list(theta.shape) != [batch, dims - 2, dims - 1]:
        raise ValueError(
            f"`theta` has shape {list(theta.shape)}; beside `size` {shown(size)} it may be "
            f"{[batch, dims - 2, dims - 1]}"
        )
    (theta,) = cast_tensors("bmm", theta)  # which stock's is made of
    # In 16-bit types the points and the product are binary32.
    wide = theta.float() if theta.dtype in (torch.float16, torch.bfloat16) else theta
    points = _points(wide, spatial, bool(align_corners))
    # One product with every sample's rows: an element of it does not know of the others.
    with without(wide.device.type):
        products = linear(points, wide.reshape(-1, dims - 1))
    grid = products.view(*spatial, batch, dims - 2).movedim(-2, 0).contiguous()
    return grid.to(theta.dtype)


def _points(theta: Tensor, spatial: Sequence[int], align_corners: bool) -> Tensor:
    """Each point of the base grid as a row (x, y, 1) or (x, y, z, 1)."""
    axes = []
    for d, n in enumerate(spatial):
        numerators = torch.arange(1 - n, n, 2, device=theta.device).to(theta.dtype)
        # By a tensor: stock CUDA divides by a number through its reciprocal.
        divisor = theta.new_full((), max(n - 1 if align_corners else n, 1))
        shape = [-1 if i == d else 1 for i in range(len(spatial))]
        axes.append((numerators / divisor).view(shape).expand(*spatial))
    ones = theta.new_ones(()).expand(*spatial)
    return torch.stack([*reversed(axes), ones], -1).flatten(0, -2)


# ---- The operator --------------------------------------------------------------------------------


def _fake(input: Tensor, grid: Tensor, *_: Any) -> Tensor:
    return input.new_empty([*input.shape[:2], *grid.shape[1:-1]])


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    spatial = pick([2, 2, 3])
    channels = draw.size(min(65, max(1, draw.most // 400)))
    most = max(1, min(33, int((draw.most // channels) ** (1 / spatial))))
    batch = draw.size(3)
    x = draw.input(batch, channels, *(draw.size(most) for _ in range(spatial)))
    grid = draw.input(batch, *(draw.size(most) for _ in range(spatial)), spatial)
    mode = pick(_MODES if spatial == 2 else _MODES[:2])
    return [x, grid, mode, pick(_PADDING_MODES), pick([False, True])]


OPERATORS = [
    Operator(
        "grid_sample",
        "(Tensor input, Tensor grid, str mode, str padding_mode, bool align_corners) -> Tensor",
        _fake,
        _draw,
    )
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    need(interpolation_mode in range(3) and padding_mode in range(3))
    mode, padding = _MODES[interpolation_mode], _PADDING_MODES[padding_mode]
    need(input.dim() == 4 or mode != "bicubic")
    return grid_sample(input, grid, mode, padding, align_corners)


def _affine_grid_generator(input: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    return affine_grid(input, size, align_corners)


ATEN: dict[str, Adapter] = {
    "grid_sampler": _grid_sampler,
    "grid_sampler_2d": _grid_sampler,
    "grid_sampler_3d": _grid_sampler,
    "affine_grid_generator": _affine_grid_generator,
}
PYTHON: dict[str, Adapter] = {"grid_sample": grid_sample, "affine_grid": affine_grid}

__all__ = ["affine_grid", "grid_sample"]
