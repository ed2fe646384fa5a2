"""Random calls of every operator: awkward sizes, every layout, dtype and epilogue, any bits."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import properties  # tests/ is on the path
import torch
from torch import Tensor

from bninv import _schemas

# On either side of a vector, a warp, a tile, a segment of a product and one of a sum.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 72, 97, 127, 128, 129)
LONG_SIZES = (255, 256, 257, 300, 512, 513, 1000, 1024, 1025, 2049, 4095, 4096, 4097, 8193, 12289)
EPILOGUES = ("none", "relu", "relu6", "hardswish", "leaky_relu", "silu")
# With an exponential: not defined in float64.
EXPONENTIAL = ("sigmoid", "silu", "tanh", "gelu", "softmax", "log_softmax")


class Draw:
    """Numbers, sizes and tensors from one seed."""

    def __init__(self, seed: str, dtype: torch.dtype, most: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.dtype = dtype
        self.most = most  # elements of a tensor, about
        self._tensors = 0

    def size(self, most: int) -> int:
        return self.random.choice([n for n in (*SIZES, *LONG_SIZES) if n <= max(1, most)])

    def shape(self, dims: int) -> list[int]:
        """Its sizes in any order, so that each dimension may be the long one."""
        sizes, left = [], self.most
        for _ in range(dims):
            sizes.append(self.size(min(left, self.most // 4 + 1)))
            left //= sizes[-1]
        self.random.shuffle(sizes)
        return sizes

    def maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.7 else None

    def tensor(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Mostly normal numbers; sometimes special ones among them, sometimes any bits."""
        self._tensors += 1
        label = f"{self.seed} {self._tensors}"
        dtype = dtype or self.dtype
        kind = self.random.random()
        if kind < 0.1:
            return properties.any_bits(label, shape, dtype)
        values = properties.normal(label, *shape, dtype=dtype) * self.random.choice([1, 1, 3])
        return properties.with_specials(values, label, 0.01) if kind < 0.3 else values

    def laid_out(self, x: Tensor) -> Tensor:
        """In one of the orders and alignments that a tensor may have."""
        # Mostly contiguous or channels_last; the others are made one after the other.
        most = 2 if self.random.random() < 0.6 else 16
        views = itertools.islice(properties.layouts(x), self.random.randint(1, most))
        return list(views)[-1][1]

    def input(self, *shape: int) -> Tensor:
        return self.laid_out(self.tensor(*shape))

    def parameters(self, *shape: int, count: int) -> list[Tensor | None]:
        """Each or none of them, float32 beside a narrow input now and then."""
        narrow = self.dtype.itemsize == 2
        wide = torch.float32 if narrow and self.random.random() < 0.3 else self.dtype
        return [self.maybe(self.tensor(*shape, dtype=wide)) for _ in range(count)]

    def epilogue(self) -> list[Any]:
        allowed = EPILOGUES[: -1 if self.dtype == torch.float64 else None]
        return [self.random.choice(allowed), self.random.choice([0.01, 0.3, -0.5])]

    def statistics(self, channels: int) -> list[Tensor]:
        return [self.tensor(channels), properties.positive(self.seed, channels).to(self.dtype)]


# ---- The arguments of each operator --------------------------------------------------------------


def _batch_norm(draw: Draw) -> list[Any]:
    shape = draw.shape(draw.random.randint(2, 5))
    affine = draw.parameters(shape[1], count=2)
    statistics = draw.statistics(shape[1])
    wide = next((v.dtype for v in affine if v is not None), draw.dtype)
    residual = draw.maybe(draw.input(*shape))
    values = [*(v.to(wide) for v in statistics), *affine]
    return [draw.input(*shape), *values, 1e-5, residual, *draw.epilogue()]


def _convolution(draw: Draw) -> list[Any]:
    pick = draw.random.choice
    groups = pick([1, 1, 1, 2, 3, 8, 32])
    per_group = draw.size(min(300, max(1, draw.most // 64) // groups))
    channels = groups * per_group
    kind = draw.random.random()
    if kind < 0.2:  # depthwise
        groups, per_group = channels, 1
    out = groups * (1 if kind < 0.2 else draw.size(min(129, max(1, draw.most // 64) // groups)))
    kernel = pick([[1, 1], [1, 1], [3, 3], [3, 3], [2, 3], [5, 5], [7, 7]])
    dilation = [pick([1, 1, 2]), pick([1, 1, 2])]
    padding = [pick([0, k // 2, 1]) for k in kernel]
    area = max(1, draw.most // max(channels, out))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [n + draw.size(min(20, math.isqrt(area))) - 1 for n in least]
    batch = draw.size(min(33, max(1, area // (image[0] * image[1]))))
    weight = draw.tensor(out, per_group, *kernel)
    if draw.random.random() < 0.5:  # as `patch` lays it out
        weight = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    stride = [pick([1, 1, 2, 3]) for _ in kernel]
    x = draw.input(batch, channels, *image)
    return [x, weight, draw.maybe(draw.tensor(out)), stride, padding, dilation, groups]


def _convolution_fused(draw: Draw) -> list[Any]:
    args = _convolution(draw)
    out = args[1].size(0)
    shape = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            args[0].shape[2:], args[4], args[5], args[1].shape[2:], args[3], strict=True
        )
    ]
    norm: list[Any] = [None] * 4
    if draw.random.random() < 0.7:
        norm = [*draw.statistics(out), draw.maybe(draw.tensor(out)), draw.maybe(draw.tensor(out))]
    residual = draw.maybe(draw.input(args[0].size(0), out, *shape))
    return [*args, *norm, 1e-3, residual, *draw.epilogue()]


def _linear(draw: Draw) -> list[Any]:
    features = draw.size(max(1, draw.most // 16))
    columns = draw.size(min(1025, max(1, draw.most // features)))
    rows = [draw.size(min(129, draw.most // max(features, columns)))]
    if draw.random.random() < 0.3:
        rows.append(draw.size(3))
    weight = draw.tensor(columns, features)
    if draw.random.random() < 0.5:
        weight = weight.T.contiguous().T
    return [draw.input(*rows, features), weight, draw.maybe(draw.tensor(columns))]


def _linear_fused(draw: Draw) -> list[Any]:
    args = _linear(draw)
    residual = draw.maybe(draw.input(*args[0].shape[:-1], args[1].size(0)))
    return [*args, residual, *draw.epilogue()]


def _rows(draw: Draw) -> tuple[Tensor, list[int]]:
    x = draw.input(*draw.shape(draw.random.randint(2, 4)))
    return x, list(x.shape[draw.random.randint(1, x.ndim - 1) :])


def _layer_norm(draw: Draw) -> list[Any]:
    x, normalized = _rows(draw)
    return [x, normalized, *draw.parameters(*normalized, count=2), 1e-5]


def _rms_norm(draw: Draw) -> list[Any]:
    x, normalized = _rows(draw)
    return [x, normalized, *draw.parameters(*normalized, count=1), 1e-6]


def _group_norm(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(2, 4)))
    channels = x.size(1)
    groups = draw.random.choice([n for n in range(1, channels + 1) if channels % n == 0])
    return [x, groups, *draw.parameters(channels, count=2), 1e-5]


def _instance_norm(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(3, 4)))
    return [x, *draw.parameters(x.size(1), count=2), 1e-5]


def _softmax(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(1, 4)))
    return [x, draw.random.randrange(-x.ndim, x.ndim)]


def _reduction(draw: Draw) -> list[Any]:
    x = draw.input(*draw.shape(draw.random.randint(1, 4)))
    dims = draw.random.sample(range(x.ndim), draw.random.randint(1, x.ndim))
    return [x, sorted(dims), draw.random.random() < 0.5]


def _window(draw: Draw) -> tuple[Tensor, list[list[int]]]:
    pick = draw.random.choice
    kernel = pick([[1, 1], [2, 2], [3, 3], [3, 2], [5, 5], [6, 9]])
    padding = [pick([0, k // 2]) for k in kernel]
    channels = draw.size(min(129, max(1, draw.most // 200)))
    image = [k + draw.size(min(33, math.isqrt(draw.most // channels))) - 1 for k in kernel]
    batch = draw.size(min(9, max(1, draw.most // (channels * image[0] * image[1]))))
    stride = [pick([1, 2, 3]) for _ in kernel]
    return draw.input(batch, channels, *image), [kernel, stride, padding]


def _avg_pool2d(draw: Draw) -> list[Any]:
    x, window = _window(draw)
    flags = [draw.random.random() < 0.5 for _ in range(2)]
    return [x, *window, *flags, draw.random.choice([None, None, 7])]


def _max_pool2d(draw: Draw) -> list[Any]:
    x, window = _window(draw)
    return [x, *window, [1, 1], draw.random.random() < 0.5]


def _adaptive_pool2d(draw: Draw) -> list[Any]:
    x, _ = _window(draw)
    return [x, draw.random.choice([[1, 1], [1, 1], [2, 3], [7, 7]])]


def _unary(*options: Any) -> Callable[[Draw], list[Any]]:
    def arguments(draw: Draw) -> list[Any]:
        return [draw.input(*draw.shape(draw.random.randint(1, 4))), *options]

    return arguments


def _gelu(draw: Draw) -> list[Any]:
    return [*_unary()(draw), draw.random.choice(["none", "tanh"])]


ARGUMENTS: dict[str, Callable[[Draw], list[Any]]] = {
    "conv2d": _convolution,
    "conv2d_fused": _convolution_fused,
    "linear": _linear,
    "linear_fused": _linear_fused,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("sum", "mean"), _reduction),
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool2d),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    **dict.fromkeys(_schemas.UNARY, _unary()),
    "gelu": _gelu,
    "leaky_relu": _unary(0.3),
}


def operators() -> dict[str, Callable[[Draw], list[Any]]]:
    """Every operator of the library, those in place as well.

    Raises:
        RuntimeError: one has no arguments here.
    """
    found = {**ARGUMENTS, **{name: ARGUMENTS[name.removesuffix("_")] for name in _schemas.IN_PLACE}}
    if unknown := _schemas.SCHEMAS.keys() - found.keys():
        raise RuntimeError(f"nobody draws arguments for {', '.join(sorted(unknown))}")
    return found


def dtypes(name: str) -> Sequence[torch.dtype]:
    narrow = (torch.float32, torch.bfloat16, torch.float16)
    return narrow if name.removesuffix("_") in EXPONENTIAL else (*narrow, torch.float64)
