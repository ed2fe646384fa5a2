"""Chains of calls run as one operator: convolution, BatchNorm, an addition, an activation.

Between two operators of such a chain a network writes a tensor to memory and reads it again. bninv
has operators that do the whole chain, with the bits of the separate ones (docs/numerics.md). This
package finds the chains in a block's own code and gives the block a program to run instead:

* `tracing` runs the block's forward once on `proxies` and stand-ins, for the calls that it makes;
  `guard` keeps what they depend on, and `trust` says whose code that is done with;
* `chains` finds the chains among the calls;
* `program` makes a graph module of them: the calls in their order, each chain as one;
* `programs` keeps a block's programs, and leaves the block to its own code where none fits.
"""

from __future__ import annotations

from bninv.fusing.model import Fusion, Unfused, fuse_chains, fusion

__all__ = [
    "Fusion",
    "Unfused",
    "fuse_chains",
    "fusion",
]
