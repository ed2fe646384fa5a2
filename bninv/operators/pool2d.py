"""Pooling over windows: rule R3 for averages; the largest element is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from bninv._arguments import IntPair, integers, need_tensor
from bninv._memory_format import is_channels_last
from bninv._shown import shown
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.draw import Draw
from bninv.operators.fakes import empty
from bninv.operators.operator import Operator


def _pool_as_2d(input: Tensor, spatial: int) -> tuple[Tensor, Any]:
    """The input as [batch, channels, height, width], and what undoes that on the result."""
    need_tensor("input", input)
    dims = spatial + 2
    if input.dim() not in (dims - 1, dims):
        names = ["batch", "channels", "length"] if spatial == 1 else ["batch", "channels", "h", "w"]
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [{', '.join(names)}] or the same "
            "without the batch"
        )
    unbatched = input.dim() == dims - 1
    x = input.unsqueeze(0) if unbatched else input
    x = x.unsqueeze(2) if spatial == 1 else x

    def restore(y: Tensor) -> Tensor:
        y = y.squeeze(2) if spatial == 1 else y
        return y.squeeze(0) if unbatched else y

    return x, restore


def _windows(value: IntPair | None, default: list[int], spatial: int, argument: str) -> list[int]:
    """Per-dimension integers, with the 1-d form's height filled in as for the kernel's 1."""
    if value is None or (isinstance(value, Sequence) and len(value) == 0):
        return default
    fill = {"padding": 0}.get(argument, 1)
    return [fill] * (2 - spatial) + integers(value, spatial, argument)


def _avg_pool(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: IntPair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    spatial: int,
) -> Tensor:
    x, restore = _pool_as_2d(input, spatial)
    kernel = _windows(kernel_size, [], spatial, "kernel_size")
    return restore(
        call(
            ops.avg_pool2d.default,
            x,
            kernel,
            _windows(stride, kernel, spatial, "stride"),
            _windows(padding, [0, 0], spatial, "padding"),
            bool(ceil_mode),
            bool(count_include_pad),
            divisor_override,
        )
    )


def avg_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows, rule R3 over the elements that exist, divided as PyTorch documents.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        Others as for `torch.nn.functional.avg_pool2d`.
    """
    return _avg_pool(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`avg_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _avg_pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, 1)


def _max_pool(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: IntPair,
    dilation: IntPair,
    ceil_mode: bool,
    return_indices: bool,
    spatial: int,
) -> Tensor:
    if return_indices:
        raise NotImplementedError("`return_indices` is True; it may be False")
    x, restore = _pool_as_2d(input, spatial)
    kernel = _windows(kernel_size, [], spatial, "kernel_size")
    return restore(
        call(
            ops.max_pool2d.default,
            x,
            kernel,
            _windows(stride, kernel, spatial, "stride"),
            _windows(padding, [0, 0], spatial, "padding"),
            _windows(dilation, [1, 1], spatial, "dilation"),
            bool(ceil_mode),
        )
    )


def max_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Largest element of each window, exact: NaN wins, +0 is greater than -0.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        return_indices: must be False.
        Others as for `torch.nn.functional.max_pool2d`.
    """
    return _max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 2)


def max_pool1d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """`max_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 1)


OutputSize = int | None | Sequence[int | None]


def _adaptive(op: Any, input: Tensor, output_size: OutputSize, spatial: int) -> Tensor:
    x, restore = _pool_as_2d(input, spatial)
    listed = output_size if isinstance(output_size, Sequence) else [output_size] * spatial
    if len(listed) != spatial:
        raise ValueError(
            f"`output_size` is {shown(output_size)}; it may be one size or {spatial} of them"
        )
    filled = [x.size(4 - spatial + i) if size is None else size for i, size in enumerate(listed)]
    sizes = [1] * (2 - spatial) + integers(filled, spatial, "output_size")
    return restore(call(op, x, sizes))


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average over PyTorch's adaptive windows, rule R3.

    Args:
        input: [batch, channels, height, width] or [channels, height, width].
        output_size: one size or (height, width); None keeps the input's.
    """
    return _adaptive(ops.adaptive_avg_pool2d.default, input, output_size, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """`adaptive_avg_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _adaptive(ops.adaptive_avg_pool2d.default, input, output_size, 1)


def adaptive_max_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Largest element of PyTorch's adaptive windows, exact: NaN wins, +0 is greater than -0."""
    return _adaptive(ops.adaptive_max_pool2d.default, input, output_size, 2)


def adaptive_max_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """`adaptive_max_pool2d` over one dimension: [batch, channels, length] or [channels, length]."""
    return _adaptive(ops.adaptive_max_pool2d.default, input, output_size, 1)


# ---- The operators -------------------------------------------------------------------------------


def pool_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def _fake_maximum(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    size = [
        pool_size(input.size(i + 2), kernel_size[i], stride[i], padding[i], dilation[i], ceil_mode)
        for i in range(len(kernel_size))
    ]
    return empty(input, [*input.shape[:2], *size], is_channels_last(input))


def _fake_average(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    *_: Any,
) -> Tensor:
    dilation = [1] * len(kernel_size)
    return _fake_maximum(input, kernel_size, stride, padding, dilation, ceil_mode)


def _fake_adaptive(input: Tensor, output_size: Sequence[int]) -> Tensor:
    return empty(input, [*input.shape[:2], *output_size], is_channels_last(input))


def _draw_window(draw: Draw) -> tuple[Tensor, list[list[int]]]:
    pick = draw.random.choice
    kernel = pick([[1, 1], [2, 2], [3, 3], [3, 2], [5, 5], [6, 9]])
    padding = [pick([0, k // 2]) for k in kernel]
    channels = draw.size(min(129, max(1, draw.most // 200)))
    image = [k + draw.size(min(33, math.isqrt(draw.most // channels))) - 1 for k in kernel]
    batch = draw.size(min(9, max(1, draw.most // (channels * image[0] * image[1]))))
    stride = [pick([1, 2, 3]) for _ in kernel]
    return draw.input(batch, channels, *image), [kernel, stride, padding]


# An input, and kernel, stride and padding.
DrawWindow = Callable[[Draw], tuple[Tensor, list[list[int]]]]


def pool_operators(
    dims: int, draw_window: DrawWindow, adaptive_sizes: Sequence[list[int]]
) -> list[Operator]:
    """Pooling over so many dimensions."""

    def draw_average(draw: Draw) -> list[Any]:
        x, window = draw_window(draw)
        flags = [draw.random.random() < 0.5 for _ in range(2)]
        return [x, *window, *flags, draw.random.choice([None, None, 7])]

    def draw_maximum(draw: Draw) -> list[Any]:
        x, window = draw_window(draw)
        return [x, *window, [1] * dims, draw.random.random() < 0.5]

    def draw_adaptive(draw: Draw) -> list[Any]:
        x, _ = draw_window(draw)
        return [x, draw.random.choice(adaptive_sizes)]

    window = "Tensor input, int[] kernel_size, int[] stride, int[] padding"
    return [
        Operator(
            f"avg_pool{dims}d",
            f"({window}, bool ceil_mode, bool count_include_pad, int? divisor_override) -> Tensor",
            _fake_average,
            draw_average,
        ),
        Operator(
            f"max_pool{dims}d",
            f"({window}, int[] dilation, bool ceil_mode) -> Tensor",
            _fake_maximum,
            draw_maximum,
        ),
        *(
            Operator(
                f"adaptive_{kind}_pool{dims}d",
                "(Tensor input, int[] output_size) -> Tensor",
                _fake_adaptive,
                draw_adaptive,
            )
            for kind in ("avg", "max")
        ),
    ]


OPERATORS = pool_operators(2, _draw_window, [[1, 1], [1, 1], [2, 3], [7, 7]])


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _without_indices(function: Adapter) -> Adapter:
    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
        need(not return_indices)
        return function(input, output_size)

    return pool


def _windows_without_indices(function: Adapter) -> Adapter:
    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        need(not return_indices)
        return function(input, kernel_size, stride, padding, dilation, ceil_mode)

    return pool


ATEN: dict[str, Adapter] = {
    "avg_pool1d": avg_pool1d,
    "avg_pool2d": avg_pool2d,
    "max_pool1d": _windows_without_indices(max_pool1d),
    "max_pool2d": _windows_without_indices(max_pool2d),
    "adaptive_avg_pool1d": adaptive_avg_pool1d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": adaptive_avg_pool2d,
}
PYTHON: dict[str, Adapter] = {
    "max_pool1d": ATEN["max_pool1d"],
    "max_pool2d": ATEN["max_pool2d"],
    "adaptive_max_pool1d": _without_indices(adaptive_max_pool1d),
    "adaptive_max_pool2d": _without_indices(adaptive_max_pool2d),
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
}

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]
