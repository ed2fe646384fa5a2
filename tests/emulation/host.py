"""A library that build.py made, and arrays with guards around them, for Python."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

DEFAULT_SEED = 20240229


class KernelError(Exception):
    """What a C function of a library reported in place of returning null."""


class GuardedArray:
    """Poisoned memory that knows when something beside it was written.

    Behind it, at most `alignment` bytes further, lies a page that cannot be touched. `array` must
    not outlive this object.
    """

    def __init__(
        self, library: ctypes.CDLL, shape: Sequence[int], dtype: DTypeLike, alignment: int
    ) -> None:
        self._library = library
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        size = count * dtype.itemsize
        self._handle = library.bninv_emulation_guarded_new(size, alignment)
        self.address: int = library.bninv_emulation_guarded_data(self._handle)
        memory = (ctypes.c_char * size).from_address(self.address)
        self.array: NDArray = np.frombuffer(memory, dtype).reshape(shape)

    def written_outside(self, name: str = "an array") -> str | None:
        """None, or what was written where."""
        found = self._library.bninv_emulation_guarded_check(self._handle, name.encode())
        return found.decode() if found else None

    def __del__(self) -> None:
        self._library.bninv_emulation_guarded_delete(self._handle)


class Library:
    """A shared library with emulated kernels; `functions` holds its C functions."""

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(str(path))
        declared = {
            "seed": (None, [ctypes.c_uint64, ctypes.c_int64]),
            "launches": (ctypes.c_uint64, []),
            "device": (None, [ctypes.c_int, ctypes.c_int]),
            "guarded_new": (ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]),
            "guarded_data": (ctypes.c_void_p, [ctypes.c_void_p]),
            "guarded_check": (ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_char_p]),
            "guarded_delete": (None, [ctypes.c_void_p]),
        }
        for name, (result, arguments) in declared.items():
            function = getattr(self.functions, f"bninv_emulation_{name}")
            function.restype, function.argtypes = result, arguments

    def seed(self, seed: int, launch: int = 0) -> None:
        """The order of threads from here on; `launch` is the number the next launch counts as."""
        self.functions.bninv_emulation_seed(seed, launch)

    def device(self, arch: int = 900, multiprocessors: int = 3) -> None:
        """What the device is at run time; `__CUDA_ARCH__` was chosen when it was compiled."""
        self.functions.bninv_emulation_device(arch, multiprocessors)

    def launches(self) -> int:
        """The number of the next launch."""
        return self.functions.bninv_emulation_launches()

    def guarded(
        self, shape: Sequence[int], dtype: DTypeLike = np.float32, alignment: int = 16
    ) -> GuardedArray:
        """A poisoned array of its own guards, aligned to `alignment` and to no more."""
        return GuardedArray(self.functions, shape, dtype, alignment)
