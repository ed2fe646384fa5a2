"""Chains of calls run as one operator: convolution, BatchNorm, an addition, an activation.

Between two operators of such a chain a network writes a tensor to memory and reads it again. bninv
has operators that do the whole chain, with the bits of the separate ones (docs/numerics.md). This
package finds the chains in a block's own code and gives the block a program to run instead:

* `record` runs the block's forward once on stand-ins, for the calls that it makes, and for what
  they depend on;
* `chains` finds the chains among the calls;
* `generate` writes the program: the calls in their order, each chain as one, behind a test that
  everything is as it was recorded;
* `programs` keeps a block's programs, and leaves the block to its own code where none fits.
"""

from __future__ import annotations

from bninv.fusing.model import Fusion, Unfused, fuse_chains, fusion
from bninv.fusing.programs import PROGRAMS

__all__ = [
    "PROGRAMS",
    "Fusion",
    "Unfused",
    "fuse_chains",
    "fusion",
]
