"""Pooling over windows in three dimensions: rule R3 for averages; the largest element is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bninv._arguments import IntPair, integers, need_tensor
from bninv._shown import shown
from bninv.operators.adapters import Adapter, need
from bninv.operators.call import call, ops
from bninv.operators.conv3d import draw_volume
from bninv.operators.draw import Draw
from bninv.operators.pool2d import OutputSize, pool_operators


def _called(op: Any, input: Tensor, *args: Any) -> Tensor:
    """The operator on a batch; without one, on a batch of one."""
    need_tensor("input", input)
    if input.dim() == 4:
        result: Tensor = call(op, input.unsqueeze(0), *args).squeeze(0)
        return result
    return call(op, input, *args)


def _kernel_and_stride(kernel_size: IntPair, stride: IntPair | None) -> list[list[int]]:
    kernel = integers(kernel_size, 3, "kernel_size")
    if stride is None or (isinstance(stride, Sequence) and len(stride) == 0):
        return [kernel, kernel]
    return [kernel, integers(stride, 3, "stride")]


def avg_pool3d(
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
        input: [batch, channels, depth, height, width] or the same without the batch.
        Others as for `torch.nn.functional.avg_pool3d`.
    """
    return _called(
        ops.avg_pool3d.default,
        input,
        *_kernel_and_stride(kernel_size, stride),
        integers(padding, 3, "padding"),
        bool(ceil_mode),
        bool(count_include_pad),
        divisor_override,
    )


def max_pool3d(
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
        input: [batch, channels, depth, height, width] or the same without the batch.
        return_indices: must be False.
        Others as for `torch.nn.functional.max_pool3d`.
    """
    if return_indices:
        raise NotImplementedError("`return_indices` is True; it may be False")
    return _called(
        ops.max_pool3d.default,
        input,
        *_kernel_and_stride(kernel_size, stride),
        integers(padding, 3, "padding"),
        integers(dilation, 3, "dilation"),
        bool(ceil_mode),
    )


def _adaptive(op: Any, input: Tensor, output_size: OutputSize) -> Tensor:
    need_tensor("input", input)
    listed = output_size if isinstance(output_size, Sequence) else [output_size] * 3
    if len(listed) != 3 or input.dim() not in (4, 5):
        if input.dim() in (4, 5):
            raise ValueError(f"`output_size` is {shown(output_size)}; it may be one size or 3")
        raise ValueError(
            f"`input` has shape {list(input.shape)}; it may be [batch, channels, depth, height, "
            "width] or the same without the batch"
        )
    filled = [input.size(i - 3) if size is None else size for i, size in enumerate(listed)]
    return _called(op, input, integers(filled, 3, "output_size"))


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average over PyTorch's adaptive windows, rule R3.

    Args:
        input: [batch, channels, depth, height, width] or the same without the batch.
        output_size: one size or (depth, height, width); None keeps the input's.
    """
    return _adaptive(ops.adaptive_avg_pool3d.default, input, output_size)


def adaptive_max_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Largest element of PyTorch's adaptive windows, exact: NaN wins, +0 is greater than -0."""
    return _adaptive(ops.adaptive_max_pool3d.default, input, output_size)


# ---- The operators -------------------------------------------------------------------------------


def _draw_window(draw: Draw) -> tuple[Tensor, list[list[int]]]:
    pick = draw.random.choice
    kernel = pick([[1, 1, 1], [2, 2, 2], [3, 3, 3], [1, 3, 3], [2, 7, 7]])
    padding = [pick([0, k // 2]) for k in kernel]
    x = draw_volume(draw, draw.size(min(70, max(1, draw.most // 300))), kernel)
    return x, [kernel, [pick([1, 2, 3]) for _ in kernel], padding]


OPERATORS = pool_operators(3, _draw_window, [[1, 1, 1], [1, 2, 3], [2, 3, 7]])


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    need(not return_indices)
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode)


def _adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    need(not return_indices)
    return adaptive_max_pool3d(input, output_size)


ATEN: dict[str, Adapter] = {
    "avg_pool3d": avg_pool3d,
    "max_pool3d": _max_pool3d,
    "adaptive_avg_pool3d": adaptive_avg_pool3d,
    "_adaptive_avg_pool3d": adaptive_avg_pool3d,
}
PYTHON: dict[str, Adapter] = {
    "max_pool3d": _max_pool3d,
    "adaptive_avg_pool3d": adaptive_avg_pool3d,
    "adaptive_max_pool3d": _adaptive_max_pool3d,
}

__all__ = ["adaptive_avg_pool3d", "adaptive_max_pool3d", "avg_pool3d", "max_pool3d"]
