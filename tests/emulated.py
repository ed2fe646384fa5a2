"""The operators' CUDA kernels on a machine without a GPU, as `torch.ops.bninv_emulated`.

The host functions of csrc/ops and the kernels of csrc/cuda, compiled against tests/emulation: they
take tensors on the CPU. Outputs and shared memory start poisoned; blocks and threads run in an
order shuffled by a seed.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from emulation import build, host

from bninv import _schemas

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = ("batch_norm",)


@functools.cache
def operators() -> host.Library:
    """Compile and load the emulated operators, once a process; the library's own controls."""
    torch_folder = Path(torch.__file__).parent
    csrc = ROOT / "csrc"
    sources = [
        *(csrc / "ops" / f"{name}.cpp" for name in (*OPERATORS, "activation", "common", "gpu")),
        *sorted(csrc.glob("cuda/*.cu")),
    ]
    path = build.build(
        sources,
        extra_flags=["-isystem", str(torch_folder / "include")],
        link_flags=[
            f"-L{torch_folder / 'lib'}",
            f"-Wl,-rpath,{torch_folder / 'lib'}",
            *("-ltorch", "-ltorch_cpu", "-lc10"),
        ],
    )
    library = torch.library.Library("bninv_emulated", "DEF")
    for name in OPERATORS:
        library.define(name + _schemas.SCHEMAS[name])
    torch.ops.load_library(path)
    controls = host.Library(path)
    controls.torch_library = library  # type: ignore[attr-defined]
    return controls
