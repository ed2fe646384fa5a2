"""Batch-invariant, bit-exact inference for vision models.

>>> model = bninv.patch(model)

The same image then gives the same output bits alone or in any batch, at any position. The
arithmetic that every result obeys is written down in docs/numerics.md and numbered by
`CONTRACT_VERSION`.
"""

import sys

# `python -m bninv` comes here before it comes to __main__. What needs no PyTorch, such as --help
# and a typo, is answered before PyTorch is imported, and ends the process.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in ("bninv", "-mbninv"):
    from bninv_cli import main

    main(run=False)
    del main

from bninv import detection as detection
from bninv import functional as functional
from bninv import operators as _operators  # noqa: F401 - defines torch.ops.bninv
from bninv import testing as testing
from bninv._version import CONTRACT_VERSION
from bninv._version import __version__ as __version__
from bninv.auditing import Audit, Record, audit, record
from bninv.building.recipe import BuildError
from bninv.checking.check_model import CheckResult, check
from bninv.compiling import fuse
from bninv.dispatch import NotInvariantError, NotInvariantWarning, invariant
from bninv.fusing import Fusion, fusion
from bninv.patching import patch, uncovered, unpatch
from bninv.patching.products import Product, SpeedWarning, products
from bninv.precision import TENSOR_CONTRACT_VERSION, arithmetic, emulate
from bninv.seeding import SeedingWarning, dataloader_seeding, seed_everything
from bninv.state_dict import contiguous_state_dict

__all__ = [
    "CONTRACT_VERSION",
    "TENSOR_CONTRACT_VERSION",
    "Audit",
    "BuildError",
    "CheckResult",
    "Fusion",
    "NotInvariantError",
    "NotInvariantWarning",
    "Product",
    "Record",
    "SeedingWarning",
    "SpeedWarning",
    "arithmetic",
    "audit",
    "check",
    "contiguous_state_dict",
    "dataloader_seeding",
    "detection",
    "emulate",
    "functional",
    "fuse",
    "fusion",
    "invariant",
    "patch",
    "products",
    "record",
    "seed_everything",
    "testing",
    "uncovered",
    "unpatch",
]
