"""Regions of images, rule R10: torchvision's roi_align and roi_pool, position-sensitive or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import IntPair, integers, need_tensor
from bninv._autocast import widened
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator

Boxes = Tensor | Sequence[Tensor]
_MOST_SAMPLES = 1 << 16  # csrc/ops/roi.cpp
# Where torchvision's autocast computes in float32 and casts the result back.
_CASTS = {
    "roi_align": ["cpu", "cuda"],
    **{name: ["cuda"] for name in ("ps_roi_align", "roi_pool", "ps_roi_pool")},
}


def roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: IntPair,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean of points of each bin of each region, rule R10, as torchvision.ops.roi_align.

    Args:
        input: [batch, channels, height, width].
        boxes: [regions, 5] of the input's dtype, a row being the index of an image, x1, y1, x2 and
            y2; or a sequence with a tensor [boxes, 4] for each image.
        output_size: bins along the height and the width.
        spatial_scale: the input's pixels for one unit of the boxes.
        sampling_ratio: points of a bin along each dimension, at most 65536; 0 and less: as many as
            the bin has pixels, rounded up.
        aligned: boxes are shifted by half a pixel, and may be smaller than one.

    Returns:
        [regions, channels, *output_size], contiguous. A region whose numbers are not all finite,
        or become infinite in the arithmetic type, is NaN.

    Raises:
        RuntimeError: on a CPU, a region's index is that of no image. On CUDA the region is NaN.
    """
    return _called("roi_align", input, boxes, output_size, spatial_scale, sampling_ratio, aligned)


def ps_roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: IntPair,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """`roi_align` with `aligned`, of which each bin has input channels of its own.

    Channel c of the result's bin (i, j) is that of the input's channel
    `(c * output_size[0] + i) * output_size[1] + j`. As torchvision.ops.ps_roi_align, but for a
    region without points, which is 0 and not NaN. Arguments and errors are those of `roi_align`;
    the input's channels are a multiple of the bins.
    """
    return _called("ps_roi_align", input, boxes, output_size, spatial_scale, sampling_ratio)


def roi_pool(
    input: Tensor, boxes: Boxes, output_size: IntPair, spatial_scale: float = 1.0
) -> Tensor:
    """The maximum of each bin of each region, rule R10, as torchvision.ops.roi_pool.

    NaN never wins. Arguments, errors and regions that are not finite are those of `roi_align`; an
    empty bin is 0.
    """
    return _called("roi_pool", input, boxes, output_size, spatial_scale)


def ps_roi_pool(
    input: Tensor, boxes: Boxes, output_size: IntPair, spatial_scale: float = 1.0
) -> Tensor:
    """The mean by rule R3 of each bin of each region, as torchvision.ops.ps_roi_pool.

    Channels are those of `ps_roi_align`; arguments, errors and regions that are not finite are
    those of `roi_align`. An empty bin is 0.
    """
    return _called("ps_roi_pool", input, boxes, output_size, spatial_scale)


def _called(name: str, input: Tensor, boxes: Boxes, output_size: IntPair, *options: Any) -> Tensor:
    need_tensor("input", input)
    dtype = input.dtype
    arguments = _arguments(name, input, boxes, output_size)
    result: Tensor = call(getattr(ops, name).default, *arguments, *options)
    return result if result.dtype is dtype else result.to(dtype)


def _arguments(
    name: str, input: Tensor, boxes: Boxes, output_size: IntPair
) -> tuple[Tensor, Tensor, list[int]]:
    regions = boxes if isinstance(boxes, Tensor) else _regions(input, boxes)
    size = integers(output_size, 2, "output_size")
    if _torch.any_autocast() and input.device.type in _CASTS[name]:
        input, regions = widened(input.device.type, input, regions)
    return input, regions, size


def _regions(input: Tensor, boxes: Any) -> Tensor:
    """Boxes listed by images as one tensor, with the images' indices."""
    if not isinstance(boxes, (list, tuple)):
        need_tensor("boxes", boxes)
    for i, own in enumerate(boxes):
        need_tensor(f"boxes[{i}]", own)
        if own.dim() != 2 or own.shape[1] != 4:
            raise ValueError(f"`boxes[{i}]` has shape {list(own.shape)}; it may be [boxes, 4]")
        if own.dtype.is_floating_point and i > 2 / torch.finfo(own.dtype).eps:
            raise ValueError(
                f"`boxes` has {len(boxes)} images, whose indices {own.dtype} does not hold; it may "
                "be of a wider dtype"
            )
    if not boxes:
        return input.new_empty((0, 5))
    return torch.cat(
        [torch.cat([own.new_full((len(own), 1), i), own], 1) for i, own in enumerate(boxes)]
    )


# ---- The operators -------------------------------------------------------------------------------


def _fake(input: Tensor, boxes: Tensor, output_size: Sequence[int], *_: Any) -> Tensor:
    return input.new_empty([boxes.shape[0], input.shape[1], *output_size])


def _fake_argmax(input: Tensor, boxes: Tensor, output_size: Sequence[int], *_: Any) -> Tensor:
    shape = [boxes.shape[0], input.shape[1], *output_size]
    return input.new_empty(shape, dtype=torch.int32)


def _fake_by_position(input: Tensor, boxes: Tensor, output_size: Sequence[int], *_: Any) -> Tensor:
    channels = input.shape[1] // (output_size[0] * output_size[1])
    return input.new_empty([boxes.shape[0], channels, *output_size])


def _draw_regions(draw: Draw, by_position: bool) -> list[Any]:
    most = max(1, int((draw.most // 3) ** 0.5))
    bins = [draw.size(min(15, most)), draw.size(min(9, most))]
    channels = draw.size(max(1, min(129, draw.most // (bins[0] * bins[1]))))
    if by_position:
        channels *= bins[0] * bins[1]
    batch, side = draw.size(3), max(1, min(65, int((draw.most // channels) ** 0.5)))
    x = draw.input(batch, channels, draw.size(side), draw.size(side))
    count = draw.size(max(1, min(9, draw.most // (channels * bins[0] * bins[1]) + 1)))
    images = torch.tensor([[draw.random.randrange(batch)] for _ in range(count)], dtype=x.dtype)
    corners = draw.tensor(count, 4) * draw.random.choice([1, 0.3]) * side + side / 2
    boxes = torch.cat([images, corners], 1)
    return [x, boxes, bins, draw.random.choice([1.0, 0.25, 1.7])]


def _draw_pool(draw: Draw) -> list[Any]:
    return _draw_regions(draw, False)


def _draw_align(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    return [*_draw_regions(draw, False), pick([-1, 0, 1, 2, 2, 3]), pick([False, True])]


def _draw_ps_pool(draw: Draw) -> list[Any]:
    return _draw_regions(draw, True)


def _draw_ps_align(draw: Draw) -> list[Any]:
    return [*_draw_regions(draw, True), draw.random.choice([-1, 0, 1, 2, 2, 3])]


_POOL = "(Tensor input, Tensor boxes, int[] output_size, float spatial_scale) -> Tensor"
OPERATORS = [
    Operator(
        "roi_align",
        "(Tensor input, Tensor boxes, int[] output_size, float spatial_scale, int sampling_ratio, "
        "bool aligned) -> Tensor",
        _fake,
        _draw_align,
    ),
    Operator(
        "ps_roi_align",
        "(Tensor input, Tensor boxes, int[] output_size, float spatial_scale, int sampling_ratio) "
        "-> Tensor",
        _fake_by_position,
        _draw_ps_align,
    ),
    Operator("roi_pool", _POOL, _fake, _draw_pool),
    Operator("roi_pool_argmax", _POOL, _fake_argmax, _draw_pool),
    Operator("ps_roi_pool", _POOL, _fake_by_position, _draw_ps_pool),
]


# ---- torchvision's signatures --------------------------------------------------------------------


def _roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    need(sampling_ratio <= _MOST_SAMPLES)
    bins = (pooled_height, pooled_width)
    return roi_align(input, rois, bins, spatial_scale, sampling_ratio, aligned)


def _ps_roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> tuple[Tensor, Tensor]:
    need(sampling_ratio <= _MOST_SAMPLES)
    result = ps_roi_align(input, rois, (pooled_height, pooled_width), spatial_scale, sampling_ratio)
    return result, _channel_mapping(result)


def _roi_pool(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    bins = (pooled_height, pooled_width)
    result = roi_pool(input, rois, bins, spatial_scale)
    arguments = _arguments("roi_pool", input, rois, bins)
    return result, call(ops.roi_pool_argmax.default, *arguments, spatial_scale)


def _ps_roi_pool(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    result = ps_roi_pool(input, rois, (pooled_height, pooled_width), spatial_scale)
    return result, _channel_mapping(result)


def _channel_mapping(result: Tensor) -> Tensor:
    """The input's channel of each element."""
    own = torch.arange(result[:1].numel(), dtype=torch.int32, device=result.device)
    return own.view(1, *result.shape[1:]).repeat(result.shape[0], 1, 1, 1)


ATEN: dict[str, Adapter] = {}
PYTHON: dict[str, Adapter] = {}
TORCHVISION: dict[str, Adapter] = {
    "roi_align": _roi_align,
    "ps_roi_align": _ps_roi_align,
    "roi_pool": _roi_pool,
    "ps_roi_pool": _ps_roi_pool,
}

__all__ = ["ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"]
