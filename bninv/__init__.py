"""Batch-invariant, bit-exact inference for vision models.

>>> model = bninv.patch(model)

The same image then gives the same output bits alone or in any batch, at any position. The arithmetic
that every result obeys is written down in docs/numerics.md and numbered by `CONTRACT_VERSION`.
"""

from bninv import _schemas as _schemas  # defines torch.ops.bninv
from bninv import functional as functional

CONTRACT_VERSION = 1
__version__ = "0.1.0"
