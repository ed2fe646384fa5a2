"""Asks csrc/cuda/gemm_plan.h, compiled for the host, for its tiles and for a product's plan."""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bninv.building.recipe import source_dir

SEGMENT = 128  # terms of R1's chains


@dataclass(frozen=True)
class Tile:
    """csrc/cuda/gemm_plan.h's TileShape."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    depth: int
    stages: int
    threads: int
    stage_elements: int

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"

    def shared_bytes(self, dtype: str) -> int:
        """sizeof(Tiling<...>::Shared): stages, totals and, in half types, what waits."""
        half = dtype in ("half", "bfloat16")
        arithmetic = 8 if dtype == "double" else 4
        elements = (2 if half else self.stages) * self.stage_elements + self.rows * self.columns
        waiting = (self.rows + self.columns) * self.depth * 2
        return arithmetic * elements + (waiting if half else 0)


@dataclass(frozen=True)
class Product:
    """gemm_plan.h's: outputs and terms of a convolution, in float32 or a half type."""

    rows: int
    columns: int
    terms: int
    groups: int
    whole_copies: bool
    taps: int


@dataclass(frozen=True)
class Plan:
    tile: Tile
    own: int  # segments of a block
    blocks: int
    workspace_bytes: int
    cost: float  # in the header's own unit


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="bninv-plan-") as folder:
        library = Path(folder) / "gemm_plan.so"
        source = Path(__file__).with_suffix(".cpp")
        subprocess.run(
            [
                *shlex.split(os.environ.get("CXX") or "c++"),
                *("-std=c++17", "-O1", "-shared", "-fPIC", f"-I{source_dir()}"),
                *(str(source), "-o", str(library)),
            ],
            check=True,
        )
        loaded = ctypes.CDLL(str(library))
    loaded.bninv_plan.restype = ctypes.c_bool
    return loaded


@functools.cache
def tiles() -> tuple[Tile, ...]:
    found = []
    for i in range(_library().bninv_tiles()):
        values = (ctypes.c_int64 * 8)()
        _library().bninv_tile(i, values)
        found.append(Tile(*values))
    return tuple(found)


def _plan(product: Product, processors: int, shared: int, tile: int, own: int) -> Plan | None:
    sizes = (ctypes.c_int64 * 6)(
        *(product.rows, product.columns, product.terms, product.groups),
        *(product.whole_copies, product.taps),
    )
    out, cost = (ctypes.c_int64 * 4)(), ctypes.c_double()
    exists = _library().bninv_plan(
        *(sizes, processors, ctypes.c_int64(shared), tile, ctypes.c_int64(own)),
        *(out, ctypes.byref(cost)),
    )
    return Plan(tiles()[out[0]], out[1], out[2], out[3], cost.value) if exists else None


def chosen(product: Product, processors: int, shared: int) -> Plan:
    """What conv2d does on so many multiprocessors with so many bytes of shared memory a block."""
    plan = _plan(product, processors, shared, 0, 0)
    assert plan is not None
    return plan


def possible(product: Product, processors: int, shared: int) -> Iterator[Plan]:
    """Every plan that it chooses from, but for the bound on the workspace."""
    segments = max(-(-product.terms // SEGMENT), 1)
    for number, tile in enumerate(tiles()):
        own = segments
        while tile.shared_bytes("float") <= shared:
            plan = _plan(product, processors, shared, number, own)
            if plan is not None:
                yield plan
            if own == 1:
                break
            own = (own + 1) // 2
