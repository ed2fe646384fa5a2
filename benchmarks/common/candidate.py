"""What is timed: a call, and PyTorch's switches under which it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class Switches(NamedTuple):
    """Those that change what stock PyTorch runs on CUDA; on the CPU they change nothing."""

    # In convolutions; it is PyTorch's default. Other products stay IEEE, which is its default too.
    tf32: bool = False
    # cuDNN times its algorithms for every new shape, instead of guessing.
    benchmark: bool = False
    cudnn: bool = True

    @contextmanager
    def on(self) -> Iterator[None]:
        # The flags from before PyTorch 2.9: the compiler still reads them, and reading them raises
        # where the newer fp32_precision was set.
        matmul = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.backends.cudnn.flags(
                enabled=self.cudnn, benchmark=self.benchmark, allow_tf32=self.tf32
            ):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = matmul


class Candidate(NamedTuple):
    """One way to compute what a row is about."""

    run: Callable[..., Any]
    switches: Switches = Switches()
    # Stock eager execution in IEEE arithmetic: the best of these is what bninv is held against.
    baseline: bool = False
    # Whether a replay of a CUDA graph tells something: not where the launches are what is slow.
    graph: bool = True
    # Computes in a narrower type than its input's, as under autocast.
    narrow: bool = False

    def difference(self, inputs: tuple[Any, ...], expected: torch.Tensor) -> float:
        """The greatest one between its result and `expected`, as a part of the greatest element.

        Args:
            expected: in float64, for the first samples or for all.
        """
        with self.switches.on():
            result = self.run(*inputs)[: len(expected)].double()
        return ((result - expected).abs().max() / expected.abs().max()).item()

    def tolerance(self, dtype: torch.dtype) -> float:
        """A wrong result is not worth timing. Kernels round differently; a fault moves far more."""
        return 1e-3 if dtype.itemsize >= 4 and not (self.switches.tf32 or self.narrow) else 0.1
