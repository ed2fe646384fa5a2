"""The operators' CUDA kernels: on a machine without a GPU as `torch.ops.bninv_emulated`.

The host functions of csrc/ops and the kernels of csrc/cuda, compiled against tests/emulation: they
take tensors on the CPU. Outputs and shared memory start poisoned; blocks and threads run in an
order shuffled by a seed. `run` calls an operator there, or on a GPU, for tensors on the CPU.

BNINV_EMULATED_OVERLAY names a folder like csrc: the .cu files in it take the place of csrc's, and
everything else stays as it is. mutants/run.py plants its faults so.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bninv.building import extension
from bninv.operators import FACTS, SCHEMAS, SCHEMAS_IN_PLACE
from tests.emulation import build, host
from tests.support.places import CSRC

# csrc/ops/*.cpp with operators that have CUDA kernels.
FAMILIES = (
    "attention",
    "batch_norm",
    "binary",
    "bmm",
    "conv2d",
    "conv3d",
    "deform_conv2d",
    "grid_sample",
    "linear",
    "nms",
    "normalization",
    "pool2d",
    "pool3d",
    "resample",
    "roi",
    "scan",
    "softmax",
    "sum",
    "unary",
)


def build_operators(overlay: Path | None = None) -> Path:
    """Compile the emulated operators, with `overlay`'s .cu files in the place of those of csrc.

    Raises:
        RuntimeError: they do not compile, or the overlay has no .cu file that csrc has.
    """
    torch_folder = Path(torch.__file__).parent
    kernels = sorted(CSRC.glob("cuda/*.cu"))
    if overlay is not None:
        replaced = {path.name: path for path in overlay.glob("cuda/*.cu")}
        if not replaced.keys() & {path.name for path in kernels}:
            raise RuntimeError(f"{overlay}/cuda has no .cu file that {CSRC}/cuda has")
        kernels = [replaced.get(path.name, path) for path in kernels]
    sources = [
        *(
            CSRC / "ops" / f"{name}.cpp"
            for name in (*FAMILIES, "activation", "common", "epilogue", "gpu", "precision")
        ),
        *kernels,
    ]
    return build.build(
        sources,
        extra_flags=["-isystem", str(torch_folder / "include")],
        link_flags=[
            f"-L{torch_folder / 'lib'}",
            f"-Wl,-rpath,{torch_folder / 'lib'}",
            *("-ltorch", "-ltorch_cpu", "-lc10"),
        ],
        scratch=overlay,
    )


@functools.cache
def operators() -> host.Library:
    """Compile and load the emulated operators, once a process; the library's own controls."""
    overlay = os.environ.get("BNINV_EMULATED_OVERLAY")
    path = build_operators(Path(overlay) if overlay else None)
    library = torch.library.Library("bninv_emulated", "DEF")
    for name, schema in {**SCHEMAS, **SCHEMAS_IN_PLACE, **FACTS}.items():
        library.define(name + schema)
    torch.ops.load_library(path)
    controls = host.Library(path)
    controls.torch_library = library
    return controls


def on(device: str, value: Any) -> Any:
    """A tensor on another device under the same strides and alignment."""
    if not isinstance(value, Tensor):
        return value
    whole = value.new_empty(0).set_(value.untyped_storage())
    moved = whole.to(device).as_strided(value.size(), value.stride(), value.storage_offset())
    return moved.neg() if value.is_neg() else moved


GUARD = 64  # elements in front of and behind an emulated operator's result: csrc/ops/common.cpp


def check_guards(result: Tensor) -> None:
    """Nothing was written beside a result that an emulated operator allocated."""
    memory = torch.empty(0, dtype=torch.uint8).set_(result.untyped_storage())
    size = GUARD * result.element_size()
    for side, guard in (("in front of", memory[:size]), ("behind", memory[-size:])):
        assert (guard == 0xFF).all(), f"a kernel wrote {side} its output"


def run(device: str, name: str, *args: Any) -> Any:
    """Operator `name` on `device`, "cpu", "emulated" or "cuda", for CPU tensors.

    The result has the strides that the device gave it. An operator in place changes a copy of its
    first argument, which is returned.
    """
    namespace = _namespace(device)
    place = "cuda" if device == "cuda" else "cpu"
    moved = [on(place, value) for value in args]
    if name in SCHEMAS_IN_PLACE:
        moved[0] = on(place, args[0].clone())
    with torch.no_grad():
        result = getattr(namespace, name)(*moved)
    if device == "emulated" and isinstance(result, Tensor):
        check_guards(result)
    return on("cpu", moved[0] if name in SCHEMAS_IN_PLACE else result)


class Redirected(TorchDispatchMode):
    """Under it bninv's operators are those whose CUDA kernels are compiled for the host."""

    def __init__(self) -> None:
        super().__init__()
        operators()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "bninv":
            name = func.overloadpacket.__name__
            assert name in SCHEMAS or name in SCHEMAS_IN_PLACE
            self.seen.add(name)
            func = getattr(torch.ops.bninv_emulated, name).default
        return func(*args, **(kwargs or {}))


def _namespace(device: str) -> Any:
    if device == "emulated":
        operators()
        return torch.ops.bninv_emulated
    extension.load()
    return torch.ops.bninv


@contextmanager
def forced_plan(device: str, tile: int, segments_per_block: int = 0) -> Iterator[None]:
    """Every product gets this tile shape, and blocks that share outputs by segments of R1."""
    ops = _namespace(device)
    ops._set_cuda_plan(tile, segments_per_block)
    try:
        yield
    finally:
        ops._set_cuda_plan(-1, 0)
