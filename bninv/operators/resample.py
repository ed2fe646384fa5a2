"""Images and volumes in another size: rule R8; to the nearest a copy, by areas rule R3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import integers, need_tensor, number
from bninv._memory_format import is_channels_last
from bninv._shown import shown
from bninv.modules.base import Patched
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, cast_tensors, ops
from bninv.operators.draw import Draw
from bninv.operators.operator import Operator
from bninv.operators.pool2d import adaptive_avg_pool1d, adaptive_avg_pool2d
from bninv.operators.pool3d import adaptive_avg_pool3d

# Modes of R8, with the input's dimensions each is for.
_WEIGHTED = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}
_NEAREST = ("nearest", "nearest-exact")
_AREA = {3: adaptive_avg_pool1d, 4: adaptive_avg_pool2d, 5: adaptive_avg_pool3d}
# By its policy under autocast all of R8 goes.
_CAST_AS = "upsample_bilinear2d"

Sizes = int | Sequence[int]
Scales = float | Sequence[float]


def interpolate(
    input: Tensor,
    size: Sizes | None = None,
    scale_factor: Scales | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input in another size; channels_last stays channels_last.

    Args:
        input: [batch, channels, length], [batch, channels, height, width] or [batch, channels,
            depth, height, width].
        mode: 'linear' (3-d input), 'bilinear', 'bicubic' (4-d) or 'trilinear' (5-d), rule R8;
            'area', the average over adaptive windows, rule R3; 'nearest' and
            'nearest-exact' are PyTorch's own, which copy elements.
        antialias: of 'bilinear' and 'bicubic': a filter as wide as the steps between outputs.
        Others as for `torch.nn.functional.interpolate`; a `scale_factor` enters the coordinates
        unless `recompute_scale_factor` is True.

    Raises:
        ValueError: arguments that do not fit each other, which the message names.
    """
    need_tensor("input", input)
    _check_mode(input, mode, align_corners, antialias)
    output_size, scales = _sizes(input, size, scale_factor, bool(recompute_scale_factor))
    if mode in _NEAREST:
        return _nearest(input, output_size, scales, mode)
    if mode == "area":
        return _AREA[input.dim()](input, output_size)
    return _resampled(input, output_size, scales, mode, bool(align_corners), bool(antialias))


def _check_mode(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    modes = (*_NEAREST, "area", *_WEIGHTED)
    if mode not in modes:
        raise ValueError(f"`mode` is {shown(mode)}; it may be {', '.join(map(repr, modes))}")
    dims = (_WEIGHTED[mode],) if mode in _WEIGHTED else (3, 4, 5)
    if input.dim() not in dims:
        raise ValueError(
            f"`input` has shape {list(input.shape)}; for mode {mode!r} it may have "
            f"{' or '.join(map(str, dims))} dimensions"
        )
    if align_corners is not None and mode not in _WEIGHTED:
        raise ValueError(
            f"`align_corners` is {shown(align_corners)}; for mode {mode!r} it may be None"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(
            f"`antialias` is {shown(antialias)}; it may be True for modes 'bilinear' and 'bicubic'"
        )


def _sizes(
    input: Tensor, size: Sizes | None, scale_factor: Scales | None, recompute: bool
) -> tuple[list[int], list[float]]:
    """The output's spatial sizes, and the scale factors that enter its coordinates, if any."""
    spatial = input.dim() - 2
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"`size` is {shown(size)} and `scale_factor` is {shown(scale_factor)}; one of them "
            "may be given"
        )
    if size is not None:
        if recompute:
            raise ValueError(
                "`recompute_scale_factor` is True; beside a `size` it may be None or False"
            )
        return _output_size(size, spatial), []
    scales = _scale_factors(scale_factor, spatial)
    sizes = [torch.sym_int(n * scale) for n, scale in zip(input.shape[2:], scales, strict=True)]
    return sizes, [] if recompute else scales


def _output_size(size: Any, spatial: int) -> list[int]:
    # One size is that of every dimension; several are as many as there are.
    if isinstance(size, Sequence) and len(size) != spatial:
        raise ValueError(f"`size` is {shown(size)}; it may be one integer or {spatial} of them")
    return integers(size, spatial, "size")


def _scale_factors(scale_factor: Any, spatial: int) -> list[float]:
    listed = (
        scale_factor
        if isinstance(scale_factor, Sequence) and not isinstance(scale_factor, str)
        else [scale_factor] * spatial
    )
    scales = [number(scale, "scale_factor") for scale in listed]
    if len(scales) != spatial or not all(2**-31 <= scale <= 2**31 for scale in scales):
        raise ValueError(
            f"`scale_factor` is {shown(scale_factor)}; it may be one number from 2^-31 to 2^31 or "
            f"{spatial} of them"
        )
    return scales


def _nearest(input: Tensor, output_size: list[int], scales: list[float], mode: str) -> Tensor:
    """PyTorch's own. Of images, 'nearest' on the CPU passes by the factor of a dimension whose size
    stays or doubles, and on CUDA does not: it is left out for both.
    """
    given: list[float | None] = [*scales] if scales else [None] * len(output_size)
    if mode == "nearest" and len(output_size) == 2:
        pairs = zip(input.shape[2:], output_size, strict=True)
        given = [None if out in (n, 2 * n) else s for (n, out), s in zip(pairs, given, strict=True)]
    name = "upsample_nearest" if mode == "nearest" else "_upsample_nearest_exact"
    result: Tensor = getattr(torch.ops.aten, f"{name}{len(output_size)}d")(
        input, output_size, *given
    )
    return result


def _resampled(
    input: Tensor,
    output_size: list[int],
    scales: list[float],
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> Tensor:
    (x,) = cast_tensors(_CAST_AS, input)
    kind = "cubic" if mode == "bicubic" else "linear"
    if mode != "linear":
        return _resample(x, output_size, scales, kind, align_corners, antialias)
    # A signal is an image of one row, which keeps its height.
    sizes, ones = [1, *output_size], [1.0, *scales] if scales else []
    return _resample(x.unsqueeze(2), sizes, ones, kind, align_corners, antialias).squeeze(2)


def _resample(x: Tensor, *args: Any) -> Tensor:
    result: Tensor = call(ops.resample.default, x, *args)
    return result


# ---- The operator --------------------------------------------------------------------------------


def _keeps_channels_last_3d(input: Tensor) -> bool:
    # The rows of a volume read as one: its strides say channels_last if the image's do.
    return input.dim() == 5 and _reads_channels_last_3d(input)


def _reads_channels_last_3d(tensor: Tensor) -> bool:
    least = 0
    if tensor.stride(1) == 0:
        return False
    for d in (1, 4, 3, 2, 0):
        if tensor.size(d) == 0 or tensor.stride(d) < least:
            return False
        if d == 0 and least == tensor.stride(1):
            return False
        least = tensor.stride(d)
        if tensor.size(d) > 1:
            least *= tensor.size(d)
    return True


def _fake(input: Tensor, output_size: Sequence[int], *_: Any) -> Tensor:
    memory_format = torch.contiguous_format
    if input.dim() == 4 and is_channels_last(input):
        memory_format = torch.channels_last
    elif _keeps_channels_last_3d(input):
        memory_format = torch.channels_last_3d
    shape = [*input.shape[:2], *output_size]
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=memory_format)


def _draw(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    spatial = pick([2, 2, 3])
    channels = draw.size(min(129, max(1, draw.most // 400)))
    most = max(1, min(40, int((draw.most // channels) ** (1 / spatial))))
    image = [draw.size(most) for _ in range(spatial)]
    output = [pick([n, 2 * n, n + 1, draw.size(most), 1]) for n in image]
    mode = "linear" if spatial == 3 else pick(["linear", "linear", "cubic"])
    scales = [pick([0.0, out / n * 1.01]) for n, out in zip(image, output, strict=True)]
    antialias = spatial == 2 and pick([False, False, True])
    x = draw.input(draw.size(3), channels, *image)
    return [x, output, pick([[], scales]), mode, pick([False, True]), antialias]


OPERATORS = [
    Operator(
        "resample",
        "(Tensor input, int[] output_size, float[] scale_factors, str mode, bool align_corners, "
        "bool antialias) -> Tensor",
        _fake,
        _draw,
    )
]


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    need(mode in (*_WEIGHTED, *_NEAREST, "area"))
    return interpolate(
        input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    )


def _upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    return _interpolate(input, size, scale_factor, mode, align_corners)


_SCALES = {3: ("scales",), 4: ("scales_h", "scales_w"), 5: ("scales_d", "scales_h", "scales_w")}


def _of_mode(mode: str, antialias: bool = False) -> Adapter:
    """ATen's operator of a mode: its scales are given one by one, or in a list in place of the
    sizes (the overload `vec`).
    """
    dims = _WEIGHTED[mode]

    def upsample(
        input: Tensor,
        output_size: Any,
        align_corners: bool,
        *listed: Any,
        scale_factors: Any = None,
        **named: Any,
    ) -> Tensor:
        need(input.dim() == dims and named.keys() <= set(_SCALES[dims]))
        if len(listed) == 1 and isinstance(listed[0], Sequence):
            scale_factors, listed = listed[0], ()
        if output_size is None or scale_factors is not None:
            need(output_size is None and scale_factors is not None and not listed and not named)
            sizes, scales = _sizes(input, None, scale_factors, False)
        else:
            given = {**dict(zip(_SCALES[dims], listed, strict=False)), **named}
            scales = [given.get(name) or 0.0 for name in _SCALES[dims]]
            sizes = _output_size(output_size, dims - 2)
        return _resampled(input, sizes, scales, mode, align_corners, antialias)

    return upsample


ATEN: dict[str, Adapter] = {
    "upsample_linear1d": _of_mode("linear"),
    "upsample_bilinear2d": _of_mode("bilinear"),
    "upsample_bicubic2d": _of_mode("bicubic"),
    "upsample_trilinear3d": _of_mode("trilinear"),
    "_upsample_bilinear2d_aa": _of_mode("bilinear", antialias=True),
    "_upsample_bicubic2d_aa": _of_mode("bicubic", antialias=True),
}
PYTHON: dict[str, Adapter] = {"interpolate": _interpolate, "upsample": _upsample}


class Upsample(Patched):
    """Also of UpsamplingBilinear2d, whose forward it is."""

    size: Any
    scale_factor: Any
    mode: str
    align_corners: bool | None
    recompute_scale_factor: bool | None

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        # To the nearest it copies; the mode 'area' is seen by its calls.
        return None if module.mode in _WEIGHTED else f"its mode is {shown(module.mode)}"

    def invariant_forward(self, input: Tensor) -> Tensor:
        return interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )


KINDS: dict[str, type[Patched]] = {"torch.nn.modules.upsampling.Upsample": Upsample}

__all__ = ["interpolate"]
