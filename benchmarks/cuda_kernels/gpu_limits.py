"""What a multiprocessor holds: the figures behind cuda_kernels.py.

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
