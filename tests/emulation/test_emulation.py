"""The emulation of CUDA: what it says it emulates, and the faults that it must find."""

from __future__ import annotations

import ctypes
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.emulation import build as emulation_build
from tests.emulation.host import DEFAULT_SEED, KernelError, Library
from tests.support import reference

HERE = Path(__file__).resolve().parent
MATMUL, SELF_TEST = HERE / "tiled_matmul.cu", HERE / "self_test.cu"
SEEDS = [DEFAULT_SEED, 0, 1, 2, 3, 4, 5, 6]
SMALL, LARGE = 0, 1  # tilings: 8 x 16 outputs a block, 32 x 80
SHAPES = [(1, 1, 1), (8, 16, 16), (9, 17, 17), (5, 33, 127), (13, 2, 128), (7, 19, 129)]
SHAPES += [(3, 90, 257), (33, 81, 300), (2, 3, 0)]


def _load_matmul(fault: int, arch: int = 900) -> Library:
    library = Library(emulation_build.build([MATMUL], [f"BNINV_FAULT={fault}"], arch=arch))
    library.functions.run_tiled_matmul.restype = ctypes.c_char_p
    library.functions.run_tiled_matmul.argtypes = [
        ctypes.c_int,
        *[ctypes.c_void_p] * 3,
        *[ctypes.c_int] * 3,
    ]
    return library


@pytest.fixture(scope="module")
def matmuls() -> dict[int, Library]:
    """By fault; 0 is none."""
    faults = [0, *(fault for fault, *_ in FAULTS)]
    emulation_build.build([MATMUL], ["BNINV_FAULT=0"])  # compiles what all share
    with ThreadPoolExecutor(emulation_build.WORKERS) as pool:
        return dict(zip(faults, pool.map(_load_matmul, faults), strict=True))


def _matmul(library: Library, tiling: int, m: int, n: int, k: int) -> tuple[bool, str | None]:
    """Whether the bits are right, and what was written outside of an array."""
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    a, b = library.guarded((m, k)), library.guarded((k, n))
    out = library.guarded((m, n))
    for operand in (a, b):
        operand.array[:] = rng.standard_normal(operand.array.shape, np.float32)
    error = library.functions.run_tiled_matmul(tiling, a.address, b.address, out.address, m, n, k)
    if error:
        raise KernelError(error.decode())
    outside = [x.written_outside(name) for x, name in ((a, "a"), (b, "b"), (out, "out"))]
    expected = reference.dot(a.array[:, None, :], b.array.T[None])
    right = np.array_equal(out.array.view(np.int32), expected.view(np.int32))
    return right, next(filter(None, outside), None)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tiling", [SMALL, LARGE])
def test_matmul_without_fault_obeys_the_contract(matmuls, tiling, shape):
    for seed in SEEDS[:: 1 if tiling == SMALL else 4]:  # orders of threads; the larger takes longer
        matmuls[0].seed(seed)
        assert _matmul(matmuls[0], tiling, *shape) == (True, None), f"seed {seed}"


def test_matmul_obeys_the_contract_where_copies_are_not_asynchronous():
    library = _load_matmul(0, arch=750)
    for seed in SEEDS:
        library.seed(seed)
        for tiling in (SMALL, LARGE):
            assert _matmul(library, tiling, 33, 81, 300) == (True, None)


WRONG = "wrong bits"
# Number and name as in tiled_matmul.cu, the shape that shows it, and how it shows.
FAULTS = [
    (1, "no barrier after the wait", (9, 17, 140), WRONG),
    (2, "no barrier before a tile is overwritten", (9, 17, 140), WRONG),
    (3, "no wait", (9, 17, 140), r"ends before a copy_async_wait has covered this copy"),
    (4, "a row too many", (9, 17, 20), r"memory that is not there|written behind out"),
    (5, "a column too many", (9, 17, 20), r"written behind out"),
    (6, "a term too many", (9, 17, 20), r"memory that is not there"),
    (7, "a term too few", (9, 17, 20), WRONG),
    (8, "a read past the end", (9, 16, 20), r"memory that is not there"),
    (9, "shared memory not asked for", (9, 17, 20), r"cudaErrorInvalidValue"),
    (10, "shared memory over the limit", (9, 17, 20), r"cudaErrorInvalidValue"),
    (11, "a barrier inside of a branch", (9, 17, 20), r"threads of a block do not meet"),
    (12, "a shuffle with a wrong mask", (9, 17, 20), r"do not meet.*\n.*__shfl_xor_sync"),
    (13, "too little shared memory", (9, 17, 20), r"outside of shared memory|wrote outside"),
    (14, "a misaligned copy", (9, 17, 20), r"16 bytes at a misaligned address"),
    (15, "static shared memory over 48 KB", (9, 17, 20), r"49\d{3} bytes of static shared"),
    (16, "the last wait left out", (9, 17, 140), r"ends before a copy_async_wait"),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("fault", "shape", "how"), [(f, s, h) for f, _, s, h in FAULTS], ids=[n for _, n, *_ in FAULTS]
)
def test_every_planted_fault_is_found(matmuls, fault, shape, how, seed):
    library = matmuls[fault]
    library.seed(seed)
    try:
        right, outside = _matmul(library, SMALL, *shape)
        found = outside or ("" if right else WRONG)
    except KernelError as error:
        found = str(error)
    assert found and re.search(how, found), found


def test_the_limit_of_shared_memory_is_the_architectures(matmuls):
    """The larger tiling takes 56 KB: with the helper, every architecture has them."""
    for arch in (750, 800, 860, 890, 900, 1000, 1200):
        matmuls[0].device(arch)
        assert _matmul(matmuls[0], LARGE, 9, 17, 20) == (True, None)
    matmuls[0].device()


# ---- Builds --------------------------------------------------------------------------------------


def test_a_shared_variable_is_a_clear_error(tmp_path):
    source = tmp_path / "kernel.cu"
    source.write_text("__global__ void kernel() {\n  __shared__ float x[4];\n  x[0] = 1;\n}\n")
    with pytest.raises(RuntimeError, match="error: __shared__ is not emulated"):
        emulation_build.build([source])


def test_an_object_is_compiled_again_only_if_something_it_includes_changed(tmp_path):
    header, source = tmp_path / "header.h", tmp_path / "unit.cpp"
    header.write_text("#define VALUE 1\n")
    source.write_text('#include "header.h"\nint value() { return VALUE; }\n')
    compile_unit = lambda: emulation_build.compile_object(source, ["-fPIC"])  # noqa: E731
    first = compile_unit()
    made = first.stat().st_mtime_ns
    assert compile_unit() == first and first.stat().st_mtime_ns == made
    header.write_text("#define VALUE 2\n")
    second = compile_unit()
    assert second != first
    header.write_text("#define VALUE 1\n")
    assert compile_unit() == first and first.stat().st_mtime_ns == made


@pytest.mark.exhaustive  # a whole compilation
def test_under_the_sanitizers():
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [HERE / "sanitized.cpp", MATMUL, SELF_TEST]
    program = emulation_build.build(sources, extra_flags=flags, program=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [str(program), "read past the end"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
    assert "add_one" in done.stderr
