"""R9's scalar arithmetic in C++ (csrc/tensor_block.h) to be called, and operands hard for it.

tests/contract/test_tensor_block.py and `make gpu-emulated`, stage "tensor-facts", hold it against
NumPy.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.places import CSRC

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
CASES = 10_000
DTYPES = ("f16", "bf16", "tf32")
# Where a format's exponent begins, its greatest field, and the bits that count.
FRACTION = {"f16": 10, "bf16": 7, "tf32": 23}
GREATEST = {"f16": 31, "bf16": 255, "tf32": 255}

SOURCE = """
#include "tensor_block.h"
using namespace bninv::common;
template <typename Operand>
static void run(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d, int64_t count,
                int terms, int shift, TensorClass rule) {
  uint32_t x[kMaxBlock], y[kMaxBlock];
  for (int64_t i = 0; i < count; ++i) {
    for (int k = 0; k < terms; ++k) {
      x[k] = a[i * terms + k] >> shift, y[k] = b[i * terms + k] >> shift;
    }
    d[i] = tensor_multiply_add<Operand>(x, y, terms, c[i], rule);
  }
}
extern "C" void multiply_add(int format, int is_h, const uint32_t* a, const uint32_t* b,
                             const uint32_t* c, uint32_t* d, int64_t count, int terms) {
  const TensorClass rule = is_h ? kTensorH : kTensorA;
  if (format == 0) run<HalfOperand>(a, b, c, d, count, terms, 0, rule);
  if (format == 1) run<BFloat16Operand>(a, b, c, d, count, terms, 0, rule);
  if (format == 2) run<Tf32Operand>(a, b, c, d, count, terms, 13, rule);
}
"""

Bits = NDArray[np.uint32]
Draw = Callable[[str, np.random.Generator, int], tuple[Bits, Bits, Bits]]
Model = Callable[[str, Bits, Bits, Bits, str], Bits]


def compile_model(folder: Path) -> Model:
    """The C++ model: (dtype, a, b, c, class) to patterns of binary32.

    Args:
        folder: for the compiler's files.
    """
    if COMPILER is None:
        raise RuntimeError("no C++ compiler was found: install g++ or name one in CXX")
    source, library = folder / "model.cpp", folder / "model.so"
    source.write_text(SOURCE)
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command = [*COMPILER.split(), *flags, "-fsanitize=undefined", "-fno-sanitize-recover"]
    command += ["-static-libubsan"] if "g++" in COMPILER and "clang" not in COMPILER else []
    for attempt in (command, [*COMPILER.split(), *flags]):  # the sanitizer may not be installed
        made = subprocess.run(
            [*attempt, f"-I{CSRC}", str(source), "-o", str(library)], capture_output=True, text=True
        )
        if made.returncode == 0:
            break
    if made.returncode != 0:
        raise RuntimeError(made.stderr)
    run = ctypes.CDLL(str(library)).multiply_add

    def multiply_add(dtype: str, a: Bits, b: Bits, c: Bits, name: str) -> Bits:
        a, b, c = (np.ascontiguousarray(x, np.uint32) for x in (a, b, c))
        d = np.empty_like(c)
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c, d)]
        count, terms = ctypes.c_int64(c.size), a.shape[-1]
        run(DTYPES.index(dtype), int(name == "H"), *pointers, count, terms)
        return d

    return multiply_add


def patterns(dtype: str, x: NDArray[np.float64]) -> Bits:
    """Operands nearest to x; a tf32 operand keeps low bits that do not count."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "f16":
            return x.astype(np.float16).view(np.uint16).astype(np.uint32)
        bits = x.astype(np.float32).view(np.uint32)
        return bits >> np.uint32(16) if dtype == "bf16" else bits


def numbers(draw: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> NDArray:
    sign = draw.choice([-1.0, 1.0], shape)
    return sign * np.ldexp(draw.uniform(1, 2, shape), draw.integers(low, high + 1, shape))


def wide(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Any patterns, infinities and NaN excepted."""
    a, b = (draw.integers(0, 2**32, (CASES, n), np.uint32) for _ in range(2))
    if dtype != "tf32":
        a, b = a >> np.uint32(16), b >> np.uint32(16)
    least = np.uint32(1 << FRACTION[dtype])
    a, b = (np.where(x // least % (GREATEST[dtype] + 1) == GREATEST[dtype], 1, x) for x in (a, b))
    c = draw.integers(0, 2**32, CASES, np.uint32)
    return a, b, np.where(c >> np.uint32(23) & np.uint32(255) == 255, 0, c)


def gaps(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Products and accumulators 20 to 30 binary places below the greatest."""
    down = draw.integers(20, 31, (CASES, n))
    down[np.arange(CASES), draw.integers(0, n, CASES)] = 0
    a = numbers(draw, (CASES, n), 0, 0) * np.ldexp(1.0, 15 - down // 2)
    b = numbers(draw, (CASES, n), 0, 0) * np.ldexp(1.0, 14 - (down + 1) // 2)
    c = numbers(draw, (CASES,), 0, 58).astype(np.float32).view(np.uint32)
    return patterns(dtype, a), patterns(dtype, b), c


def cancelling(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Pairs of opposite products, one pair of them a little off."""
    a, b = numbers(draw, (CASES, n), -6, 6), numbers(draw, (CASES, n), -6, 6)
    a[:, 1::2], b[:, 1::2] = a[:, ::2], -b[:, ::2]
    a[::2, 0] *= 1 + 2.0**-7
    c = numbers(draw, (CASES,), -40, 5) * draw.integers(0, 2, CASES)
    return patterns(dtype, a), patterns(dtype, b), c.astype(np.float32).view(np.uint32)


def tiny(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Products about the floor of the greatest exponent, subnormal operands and accumulators."""
    low = -24 if dtype == "f16" else -84
    a, b = numbers(draw, (CASES, n), low, low + 24), numbers(draw, (CASES, n), low, low + 24)
    c = draw.integers(0, 2**25, CASES, np.uint32) | draw.integers(0, 2, CASES, np.uint32) << 31
    return patterns(dtype, a), patterns(dtype, b), c.astype(np.uint32)


def subnormal(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Subnormal operands beside the greatest, so that they count."""
    least = 1 << FRACTION[dtype]
    a, b = (draw.integers(0, least, (CASES, n), np.uint32) for _ in range(2))
    b += np.uint32(least) * draw.integers(0, GREATEST[dtype], (CASES, n), np.uint32)
    c = draw.integers(0, 2**24, CASES, np.uint32)
    return a, b, c


def greatest(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """About the greatest binary32, on both sides."""
    high = 15 if dtype == "f16" else 64
    a, b = numbers(draw, (CASES, n), high - 3, high), numbers(draw, (CASES, n), high - 3, high)
    c = numbers(draw, (CASES,), 120, 127).astype(np.float32).view(np.uint32)
    return patterns(dtype, a), patterns(dtype, b), c


def special(dtype: str, draw: np.random.Generator, n: int) -> tuple[Bits, Bits, Bits]:
    """Zeros of both signs, infinities and NaN among a few numbers."""
    choices = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan])
    often = np.array([0.25, 0.25, 0.22, 0.22, 0.02, 0.02, 0.02])
    a, b = (draw.choice(choices, (CASES, n), p=often) for _ in range(2))
    a[::3], b[::5] = np.copysign(0.0, a[::3]), np.copysign(0.0, b[::5])
    b[::30] = -a[::30]
    c = draw.choice(choices, CASES, p=often).astype(np.float32).view(np.uint32)
    return patterns(dtype, a), patterns(dtype, b), c


KINDS = (wide, gaps, cancelling, tiny, subnormal, greatest, special)


def dots(a: NDArray, b: NDArray) -> tuple[Bits, Bits]:
    """The terms [outputs, k] of every output of tiles A [tiles, m, k] and B [tiles, k, n]."""
    tiles, m, k = a.shape
    shape = (tiles, m, b.shape[-1], k)
    left = np.broadcast_to(a[:, :, None, :], shape).reshape(-1, k)
    right = np.broadcast_to(b.transpose(0, 2, 1)[:, None], shape).reshape(-1, k)
    return left.astype(np.uint32), right.astype(np.uint32)
