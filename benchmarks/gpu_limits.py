"""What a multiprocessor holds and how fast it works: the figures behind cuda_kernels.py.

Resident threads, blocks, registers and shared memory: CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability"; how registers and shared memory are handed out:
cuda_occupancy.h, which is part of the toolkit. Nothing here was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
_SCHEDULERS = 4  # of every architecture below
_REGISTERS = 65536
_REGISTER_UNIT = 256  # a warp's registers are a multiple


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one multiprocessor."""

    threads: int
    blocks: int
    shared_kib: int
    reserved_shared: int = 1024  # bytes that the system takes from each block's shared memory
    shared_unit: int = 128

    def resident_blocks(self, threads: int, registers: int, shared: int) -> int:
        """Blocks of that many threads, registers a thread and bytes of shared memory at a time."""
        warps = -(-threads // WARP)
        warp_registers = -(-registers * WARP // _REGISTER_UNIT) * _REGISTER_UNIT
        warps_by_registers = _REGISTERS // _SCHEDULERS // warp_registers * _SCHEDULERS
        needed = -(-(shared + self.reserved_shared) // self.shared_unit) * self.shared_unit
        by_shared = self.shared_kib * 1024 // needed if needed else self.blocks
        return min(
            self.threads // (warps * WARP), self.blocks, warps_by_registers // warps, by_shared
        )


MULTIPROCESSORS = {
    "7.5": Multiprocessor(1024, 16, 64, reserved_shared=0, shared_unit=256),
    "8.0": Multiprocessor(2048, 32, 164),
    "8.6": Multiprocessor(1536, 16, 100),
    "8.9": Multiprocessor(1536, 24, 100),
    "9.0": Multiprocessor(2048, 32, 228),
    "10.0": Multiprocessor(2048, 32, 228),
    "12.0": Multiprocessor(1536, 24, 100),
}


@dataclass(frozen=True)
class Gpu:
    """An H200 (SXM), of compute capability 9.0: NVIDIA's data sheet, but for the latency."""

    processors: int = 132
    clock: float = 1.755e9  # cycles a second; a clock lowered by heat or power scales all limits
    bandwidth: float = 4.8e12  # bytes a second; copies reach about nine tenths of it
    latency: float = 800e-9  # seconds from a load to its data under load: assumed

    # Lanes, or bytes for "memory", that a multiprocessor takes in a cycle. Programming Guide,
    # "Arithmetic Instructions", column 9.0; `memory` is the path to the first-level cache.
    def rate(self, pipe: str) -> int:
        return {"issue": _SCHEDULERS * WARP, "alu": 64, "fp64": 64, "special": 16, "memory": 128}[
            pipe
        ]


H200 = Gpu()
