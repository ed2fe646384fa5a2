"""Random calls of every operator: awkward sizes, every layout, dtype and epilogue, any bits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bninv._arguments import ACTIVATIONS
from bninv.operators import OPERATORS
from tests.support import properties

# On either side of a vector, a warp, a tile, a segment of a product and one of a sum.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 72, 97, 127, 128, 129)
LONG_SIZES = (255, 256, 257, 300, 512, 513, 1000, 1024, 1025, 2049, 4095, 4096, 4097, 8193, 12289)


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
        return [self.random.choice(ACTIVATIONS), self.random.choice([0.01, 0.3, -0.5])]

    def statistics(self, channels: int) -> list[Tensor]:
        return [self.tensor(channels), properties.positive(self.seed, channels).to(self.dtype)]


# ---- The operators -------------------------------------------------------------------------------


def operators() -> dict[str, Callable[[Any], list[Any]]]:
    """How to draw a call of every operator of the library, those in place as well."""
    in_place = {f"{name}_": op.draw for name, op in OPERATORS.items() if op.in_place}
    return {name: op.draw for name, op in OPERATORS.items()} | in_place


DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
