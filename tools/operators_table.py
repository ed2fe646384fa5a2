"""Writes docs/operators.md: what is covered, from the rooms of bninv/operators themselves.

python -m tools.operators_table           write it
python -m tools.operators_table --check   exit with 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bninv.operators import (
    ROOMS,
    Operator,
    conv2d_modules,
    conv3d_modules,
    conv_transpose_modules,
    pool2d_modules,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"
HEAD = """# What is covered

From `bninv/operators`, by `python -m tools.operators_table`. Each operator has a kernel for the CPU
and for CUDA (compute capability 7.5 to 12.0), in float32, float64, float16 and bfloat16. A call
whose arguments do not fit stays PyTorch's and is reported.

| room | operators | what PyTorch's functions become | modules |
|---|---|---|---|
"""
# A large room's modules stand beside it.
BESIDE = {
    "conv2d": conv2d_modules,
    "conv3d": conv3d_modules,
    "conv_transpose": conv_transpose_modules,
    "pool2d": pool2d_modules,
}


def row(room: Any) -> str:
    name = room.__name__.rpartition(".")[2]
    operators: list[Operator] = room.OPERATORS
    kinds = {**getattr(room, "KINDS", {}), **getattr(BESIDE.get(name), "KINDS", {})}
    modules = sorted({kind.rpartition(".")[2] for kind in kinds}, key=lambda m: (m.casefold(), m))
    functions = sorted({*room.ATEN, *room.PYTHON} - {op.name + "_" for op in operators})
    functions += [f"torchvision::{name}" for name in sorted(getattr(room, "TORCHVISION", {}))]
    names = [op.name + ("*" if op.in_place else "") for op in operators]
    cells = (name, code(names), code(functions), code(modules))
    return "| " + " | ".join(cells) + " |\n"


def code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page() -> str:
    rows = "".join(map(row, ROOMS))
    return f"{HEAD}{rows}\n\\* also in place, under the name with an underscore.\n"


def main(arguments: list[str]) -> int:
    """The exit status."""
    if "--check" not in arguments:
        PAGE.write_text(page())
        return 0
    return int(PAGE.read_text() != page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
