"""The operators, a room for each: all that Python says of it.

A room has its functions, under the names and signatures of `torch.nn.functional`; OPERATORS, what
PyTorch is told of them; ATEN and PYTHON, what PyTorch's own functions become (`adapters`), and some
have TORCHVISION, what torchvision's operators become; and KINDS, the modules whose forward it is,
by the class that defines that forward. What goes over all operators (dispatch, patching, and the
tests of every operator) goes over the tables below.
"""

from __future__ import annotations

from typing import Any

from bninv.modules.base import Patched
from bninv.operators import (
    attention,
    batch_norm,
    binary,
    conv2d,
    conv2d_modules,
    conv3d,
    conv3d_modules,
    conv_transpose,
    conv_transpose_modules,
    deform_conv2d,
    grid_sample,
    group_norm,
    layer_norm,
    linear,
    matmul,
    nms,
    norms,
    pool2d,
    pool2d_modules,
    pool3d,
    recurrent,
    resample,
    roi,
    scan,
    softmax,
    statistics,
    sum,
    unary,
)
from bninv.operators.adapters import Adapter
from bninv.operators.operator import FACTS, Operator, define

ROOMS: tuple[Any, ...] = (
    *(deform_conv2d, nms),
    *(attention, batch_norm, binary, conv2d, conv3d, conv_transpose, grid_sample, group_norm),
    *(layer_norm, linear, matmul, norms, pool2d, pool3d, recurrent, resample, roi, scan),
    *(softmax, statistics, sum, unary),
)
OPERATORS: dict[str, Operator] = {op.name: op for room in ROOMS for op in room.OPERATORS}
ATEN: dict[str, Adapter] = {}
PYTHON: dict[str, Adapter] = {}
TORCHVISION: dict[str, Adapter] = {}
KINDS: dict[str, type[Patched]] = {}
for _room in ROOMS:
    ATEN |= _room.ATEN
    PYTHON |= _room.PYTHON
    TORCHVISION |= getattr(_room, "TORCHVISION", {})
# A large room's modules stand beside it.
for _room in (*ROOMS, conv2d_modules, conv3d_modules, conv_transpose_modules, pool2d_modules):
    KINDS |= getattr(_room, "KINDS", {})
# With those in place, as the dispatcher knows them.
SCHEMAS: dict[str, str] = {name: op.schema for name, op in OPERATORS.items()}
SCHEMAS_IN_PLACE: dict[str, str] = {
    f"{name}_": op.schema_in_place for name, op in OPERATORS.items() if op.in_place
}

define(OPERATORS.values())

__all__ = [
    "ATEN",
    "FACTS",
    "KINDS",
    "OPERATORS",
    "PYTHON",
    "SCHEMAS",
    "SCHEMAS_IN_PLACE",
    "TORCHVISION",
    "Operator",
]
