"""self_test.cu, compiled."""

from __future__ import annotations

import ctypes

from tests.emulation import build
from tests.emulation.host import KernelError, Library
from tests.support.places import EMULATION


class SelfTest:
    def __init__(self) -> None:
        self.library = Library(build.build([EMULATION / "self_test.cu"]))
        functions = self.library.functions
        functions.run_self_test.restype = ctypes.c_char_p
        functions.run_self_test.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 2, ctypes.c_int64]
        functions.launch_error.restype = ctypes.c_char_p
        functions.launch_error.argtypes = [*[ctypes.c_void_p] * 2, ctypes.c_size_t, ctypes.c_bool]

    def run(self, name: str, out=None, source=None, n: int = 0):
        pointers = [None if x is None else x.ctypes.data for x in (out, source)]
        error = self.library.functions.run_self_test(name.encode(), *pointers, n)
        if error:
            raise KernelError(error.decode())
        return out

    def launch_error(self, grid=(1, 1, 1), block=(1, 1, 1), shared=0, allow=False) -> str:
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        return self.library.functions.launch_error(*sizes, shared, allow).decode()
