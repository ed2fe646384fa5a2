"""The emulation's tensor cores: where a fragment's elements lie, and which class computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.emulation.host import DEFAULT_SEED, KernelError
from tests.emulation.self_test import SelfTest
from tests.support import reference_tensor

TERMS = {"f16": 16, "bf16": 16, "tf32": 8}
NOT_TRANSPOSED, HALVES_SWAPPED, ROWS_SWAPPED, MISALIGNED, HALF_A_WARP = range(1, 6)


@pytest.fixture(scope="module")
def compiled() -> SelfTest:
    return SelfTest()


@pytest.fixture
def small(compiled: SelfTest) -> Iterator[SelfTest]:
    yield compiled
    compiled.library.seed(DEFAULT_SEED)
    compiled.library.device()


def patterns(dtype: str, values: np.ndarray) -> np.ndarray:
    if dtype == "f16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.astype(np.float32).view(np.uint32)
    return bits if dtype == "tf32" else (bits >> 16).astype(np.uint16)


def operands(dtype: str, draw: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patterns of a, 16 x terms, and of b, terms x 8; values of c."""
    rng = np.random.default_rng(7)
    shapes = (16, TERMS[dtype]), (TERMS[dtype], 8), (16, 8)
    if draw == "integers":  # every product and sum is exact
        a, b, c = (rng.integers(-8, 9, shape).astype(np.float32) for shape in shapes)
    else:
        a, b, c = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return patterns(dtype, a), patterns(dtype, b), c


def product(small: SelfTest, dtype: str, draw: str, fault: int = 0) -> np.ndarray:
    a, b, c = operands(dtype, draw)
    source = np.frombuffer(a.tobytes() + b.tobytes(), np.uint8)
    aligned = small.library.guarded(source.shape, np.uint8)
    aligned.array[:] = source
    return small.run(f"tensor_product_{dtype}", c.copy(), aligned.array, fault)


@pytest.mark.parametrize("dtype", TERMS)
def test_every_element_is_at_its_place(small: SelfTest, dtype: str) -> None:
    a, b, c = operands(dtype, "integers")
    exact = reference_tensor.values(dtype, a) @ reference_tensor.values(dtype, b) + c
    for seed in range(4):
        small.library.seed(seed)
        assert (product(small, dtype, "integers") == exact).all()
    for fault in (NOT_TRANSPOSED, HALVES_SWAPPED, ROWS_SWAPPED):
        if dtype != "tf32" or fault != NOT_TRANSPOSED:
            assert (product(small, dtype, "integers", fault) != exact).any()


@pytest.mark.parametrize("dtype", TERMS)
def test_the_architecture_gives_the_class(small: SelfTest, dtype: str) -> None:
    a, b, c = operands(dtype, "normal")
    found = {}
    for arch in (800, 860, 890, 900, 1000, 1200):
        small.library.device(arch)
        found[arch] = product(small, dtype, "normal")
        rule = reference_tensor.A if arch < 900 else reference_tensor.H
        expected = reference_tensor.multiply_add(
            dtype,
            np.broadcast_to(a[:, None, :], (16, 8, TERMS[dtype])),
            np.broadcast_to(b.T[None, :, :], (16, 8, TERMS[dtype])),
            c,
            rule,
        )
        assert (found[arch].view(np.uint32) == np.asarray(expected).view(np.uint32)).all()
    assert (found[800] != found[900]).any()


@pytest.mark.parametrize("dtype", TERMS)
def test_faults_are_errors(small: SelfTest, dtype: str) -> None:
    with pytest.raises(KernelError, match=r"load_matrices of 16 bytes at a misaligned address"):
        product(small, dtype, "integers", MISALIGNED)
    with pytest.raises(KernelError, match=r"(?s)16 are at load_matrices.*16 are finished"):
        product(small, dtype, "integers", HALF_A_WARP)
    small.library.device(750)
    with pytest.raises(KernelError, match="without this mma"):
        product(small, dtype, "integers")
