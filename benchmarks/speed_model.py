"""What a convolution on csrc/cuda's kernels should take on an H200: a model on paper.

Every figure that is not a data sheet's or the compiler's is assumed, and stands here by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gemm_plan
from gpu_limits import H200, WARP
from network_convolutions import Convolution

PEAK = 67e12  # float32 operations a second: the data sheet's
# The clock at which the multiprocessors' 128 fmas a cycle are that.
CLOCK = PEAK / (2 * 128 * H200.processors)
SHARED_PER_BLOCK = 227 * 1024
SCHEDULERS = 4

# Assumed.
COPY = 0.9  # part of the data sheet's bandwidth that a kernel can use
L2_BANDWIDTH = 5.5e12  # bytes a second
LAUNCH = 1.5e-6  # from one kernel's end to the next one's work, in a replayed graph
FIRST_LOADS = 1400.0  # cycles from a block's start until its first terms are there
SHARED_LATENCY = 30.0  # cycles that a lone warp waits for each group of terms it reads
BARRIER = 60.0  # cycles, at each step
SETUP = 600.0  # a thread's instructions before its first step, most of them divisions
EPILOGUE = 120.0  # a thread's instructions for four outputs: batch norm, activation, store
SPLIT_STORE = 20.0  # the same where a segment's sums go to the workspace


@dataclass(frozen=True)
class Kernel:
    """What the compiler made of a tile's kernel: rows of results/cuda_kernels.json."""

    resident: int  # blocks on a multiprocessor
    step: float  # instructions
    segment_end: float
    shared_cycles: float
    groups: float

    @classmethod
    def of(cls, resources: Mapping[str, Any], loop: Mapping[str, Any]) -> Kernel:
        return cls(
            resident=resources["on"]["9.0"]["blocks"],
            step=loop["step"],
            segment_end=loop["segment_end"],
            shared_cycles=loop["shared_cycles"],
            groups=loop["groups"],
        )


def product_of(conv: Convolution, batch: int) -> gemm_plan.Product:
    """What csrc/cuda/conv2d_plan.cu makes of it, all tensors aligned."""
    columns, group = conv.out_channels // conv.groups, conv.channels // conv.groups
    return gemm_plan.Product(
        rows=batch * conv.out_size**2,
        columns=columns,
        terms=conv.terms,
        groups=conv.groups,
        whole_copies=columns % 4 == 0 and group % 4 == 0,
        taps=conv.kernel**2,
    )


def gather(conv: Convolution) -> str:
    if conv.channels // conv.groups % 4 or conv.out_channels // conv.groups % 4:
        return "elements"
    # Of a strided 1 x 1 kernel too, single pixels are read.
    return "points" if conv.kernel == 1 else "windows"


def compulsory_bytes(conv: Convolution, batch: int, element: int) -> int:
    """Input, weight and output, each once; of a strided 1 x 1 kernel's input what it reads."""
    read = min(conv.size, conv.out_size * conv.kernel) ** 2
    weight = conv.terms * conv.out_channels
    return element * (
        batch * (read * conv.channels + conv.out_size**2 * conv.out_channels) + weight
    )


def finish(
    fmas: int, limits: dict[str, float], launches: int, extra: float = 0.0
) -> dict[str, Any]:
    """The longest of the limits, in seconds, what comes on top, and what binds."""
    slowest = max(limits, key=limits.__getitem__)
    seconds = limits[slowest] + launches * LAUNCH + extra
    if launches * LAUNCH + extra > limits[slowest]:
        slowest = "launch" if launches == 1 else "split"
    return {
        "microseconds": round(seconds * 1e6, 2),
        "fraction": round(2 * fmas / seconds / PEAK, 3),
        "limit": slowest,
        "limits": {name: round(value * 1e6, 2) for name, value in limits.items()},
    }


def tiled(
    conv: Convolution, batch: int, plan: gemm_plan.Plan, kernel: Kernel, element: int
) -> dict[str, Any]:
    """The tiled product under a plan."""
    tile, product = plan.tile, product_of(conv, batch)
    terms = min(plan.own * gemm_plan.SEGMENT, product.terms)
    steps = -(-terms // tile.depth)
    segments = -(-terms // gemm_plan.SEGMENT)
    split = plan.workspace_bytes > 0
    outputs = tile.thread_rows * tile.thread_columns / 4
    instructions = steps * kernel.step + segments * kernel.segment_end + SETUP
    instructions += outputs * (segments * SPLIT_STORE if split else EPILOGUE)
    waiting = FIRST_LOADS + steps * (kernel.groups * SHARED_LATENCY + BARRIER)

    # The multiprocessor with the most blocks, and its scheduler with the most warps.
    blocks = -(-plan.blocks // H200.processors)
    warps = tile.threads // WARP
    cycles = {
        "fma issue": FIRST_LOADS + -(-blocks * warps // SCHEDULERS) * instructions,
        "shared memory": FIRST_LOADS + blocks * warps * steps * kernel.shared_cycles,
        # Blocks that take turns, each with its own warps alone at a scheduler.
        "latency": -(-blocks // kernel.resident) * (instructions + waiting),
    }
    limits = {name: value / CLOCK for name, value in cycles.items()}
    moved = compulsory_bytes(conv, batch, element)
    limits["memory"] = moved / (COPY * H200.bandwidth)
    through_l2 = plan.blocks * (tile.rows + tile.columns) * terms * element
    limits["L2"] = through_l2 / L2_BANDWIDTH
    # Written by one kernel and read by the next, from the L2.
    extra = 2 * plan.workspace_bytes / L2_BANDWIDTH
    padded = plan.blocks * tile.rows * tile.columns * steps * tile.depth
    return {
        "tile": tile.name,
        "segments": plan.own,
        "of_segments": -(-product.terms // gemm_plan.SEGMENT),
        "split": split,
        "blocks": plan.blocks,
        "waves": round(plan.blocks / (H200.processors * kernel.resident), 2),
        "occupancy": round(kernel.resident * tile.threads / 2048, 3),
        "useful": round(conv.fmas(batch) / padded, 3),
        "bytes": moved,
        "l2_bytes": through_l2,
        **finish(conv.fmas(batch), limits, 2 if split else 1, extra),
    }


# conv2d_direct: a thread owns four channels of four pixels.
PIXELS = 4
CHANNELS = 4
DIRECT_THREADS = 128


def direct(
    conv: Convolution, batch: int, resident: int, tap: float, row: float, element: int
) -> dict[str, Any]:
    """The depthwise kernel. `tap`, `row`: a thread's instructions for each of its window's."""
    columns = -(-conv.out_size // PIXELS)
    threads = batch * conv.out_size * columns * (conv.out_channels // CHANNELS)
    blocks = -(-threads // DIRECT_THREADS)
    own = -(-blocks // H200.processors)
    warps = own * DIRECT_THREADS // WARP
    instructions = conv.terms * tap + conv.kernel * row + SETUP + PIXELS * EPILOGUE
    # Each tap reads four pixels and a weight, of four elements: 128 bytes a cycle from the L1.
    first_level = conv.terms * (PIXELS + 1) * CHANNELS * element * WARP / 128
    cycles = {
        "fma issue": FIRST_LOADS + -(-warps // SCHEDULERS) * instructions,
        "L1": FIRST_LOADS + warps * first_level,
        # A row of taps at a time is on its way from the L2.
        "latency": -(-own // resident) * (instructions + conv.kernel * FIRST_LOADS / 2),
    }
    limits = {name: value / CLOCK for name, value in cycles.items()}
    moved = compulsory_bytes(conv, batch, element)
    limits["memory"] = moved / (COPY * H200.bandwidth)
    # The rows of a window are read by blocks of other multiprocessors too.
    rows = conv.kernel * conv.out_size
    through_l2 = element * batch * conv.channels * (rows * conv.size + conv.out_size**2)
    limits["L2"] = through_l2 / L2_BANDWIDTH
    return {
        "tile": "direct",
        "segments": 1,
        "of_segments": 1,
        "split": False,
        "blocks": blocks,
        "waves": round(blocks / (H200.processors * resident), 2),
        "occupancy": round(resident * DIRECT_THREADS / 2048, 3),
        "useful": round(conv.out_size / (columns * PIXELS), 3),
        "bytes": moved,
        "l2_bytes": through_l2,
        **finish(conv.fmas(batch), limits, 1),
    }
