"""R9's scalar arithmetic: C++ (csrc/tensor_block.h), NumPy (reference_tensor.py) and an H100."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import reference_tensor as reference
from tests.support.places import DATA
from tests.support.tensor_cases import (
    COMPILER,
    DTYPES,
    KINDS,
    Bits,
    Draw,
    Model,
    compile_model,
    dots,
    gaps,
    patterns,
)

# Tiles drawn from every category of tests/gpu/tensor_facts/draws.cuh, and what an H100's
# mma.sync (m16n8k16; tf32: m16n8k8) made of them: A [tiles, 16, k], B [tiles, k, 8], C and D
# [tiles, 16, 8], patterns all of them.
VECTORS = DATA / "tensor_core_vectors_h100.npz"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    return compile_model(tmp_path_factory.mktemp("tensor_block"))


def assert_same(got: Bits, expected: NDArray[np.float32], what: str) -> None:
    values = got.view(np.float32)
    wrong = np.flatnonzero(~reference.same(values, expected))
    first = ", ".join(
        f"case {i}: {values[i]!r} instead of {expected[i]!r} " for i in wrong[:3].tolist()
    )
    assert not wrong.size, f"{what}: {wrong.size} of {got.size} differ. {first}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_model_is_the_reference(model: Model, dtype: str, kind: Draw) -> None:
    draw = np.random.default_rng(DTYPES.index(dtype) * 100 + KINDS.index(kind))
    for terms in (reference.GROUP[dtype], reference.GROUP[dtype] // 2):
        a, b, c = kind(dtype, draw, terms)
        for name, rule in reference.CLASSES.items():
            got = model(dtype, a, b, c, name)
            expected = reference.multiply_add(dtype, a, b, c.view(np.float32), rule)
            assert_same(got, expected, f"{dtype}, {terms} terms, class {name}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_classes_differ(model: Model, dtype: str) -> None:
    draw = np.random.default_rng(1)
    a, b, c = gaps(dtype, draw, reference.GROUP[dtype])
    assert (model(dtype, a, b, c, "A") != model(dtype, a, b, c, "H")).mean() > 0.05


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_in_a_block_is_nothing(model: Model, dtype: str) -> None:
    draw = np.random.default_rng(2)
    for kind in KINDS:
        a, b, c = kind(dtype, draw, reference.GROUP[dtype])
        order = draw.permutation(a.shape[-1])
        mixed = model(dtype, a[:, order], b[:, order], c, "H")
        np.testing.assert_array_equal(mixed, model(dtype, a, b, c, "H"), kind.__name__)


def test_known_results(model: Model) -> None:
    """By hand: what is cut, and where."""
    one = 0x3F80  # bf16
    a, b = np.zeros((1, 16), np.uint32), np.zeros((1, 16), np.uint32)
    a[0, 0] = b[0, 0] = b[0, 15] = one

    def add(last: float, c: float) -> tuple[float, ...]:
        a[0, 15] = patterns("bf16", np.array(last))
        start = np.array([c], np.float32).view(np.uint32)
        return tuple(float(model("bf16", a, b, start, n).view(np.float32)[0]) for n in "AH")

    # Class A adds the last 8 terms to the rounded sum of the first 8, and cuts at 2^-24 below it.
    assert add(2.0**-25, -1.0) == (2.0**-25, 2.0**-25)
    assert add(2.0**-25, -(2.0**-25)) == (1.0, 1.0)
    assert add(2.0**-26, 0.0) == (1.0, 1.0)
    # Toward zero, not to the nearest.
    assert add(1.75 * 2.0**-24, 0.0) == (1.0, 1.0)
    assert add(-(2.0**-25), 0.0) == (1.0, 1 - 2.0**-24)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_positive(model: Model, dtype: str) -> None:
    """Of negative terms alone, of terms that cancel, of a sum too small for binary32."""
    terms = reference.GROUP[dtype]
    minus = patterns(dtype, np.full((3, terms), -0.0))
    one, zero = patterns(dtype, np.ones((3, terms))), np.uint32(0)
    minus[1, :2] = patterns(dtype, np.array([1.0, -1.0]))
    c = np.array([0x80000000, 0x80000000, 0], np.uint32)
    if dtype != "f16":  # whose products reach down to 2^-48 only
        minus[2, 0], one[2, 0] = patterns(dtype, np.array([-(2.0**-80), 2.0**-75]))
    for name, rule in reference.CLASSES.items():
        assert (model(dtype, minus, one, c, name) == zero).all(), name
        numpy = reference.multiply_add(dtype, minus, one, c.view(np.float32), rule)
        assert (numpy.view(np.uint32) == zero).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_of_an_h100(model: Model, dtype: str) -> None:
    with np.load(VECTORS) as file:
        a, b, c, d = (file[f"{dtype}_{name}"] for name in "abcd")
    left, right = dots(a, b)
    start, bits = c.reshape(-1), d.reshape(-1)
    assert bits.size == 10_240
    np.testing.assert_array_equal(model(dtype, left, right, start, "H"), bits)
    numpy = reference.multiply_add(dtype, left, right, start.view(np.float32), reference.H)
    assert_same(numpy.view(np.uint32), bits.view(np.float32), "NumPy")
    # They can tell: another class gives other bits, and zeros and NaN are among them.
    assert (model(dtype, left, right, start, "A") != bits).mean() > 0.02
    assert np.isnan(bits.view(np.float32)).any() and (bits == 0).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_published_results(model: Model, dtype: str) -> None:
    """Of seven GPUs, by Khattak and Mikaitis: arrays GPU_FORMAT_a, b, c, d of float32 values.

    They are measured and published with arXiv 2512.07004, and not copied into this project.
    """
    path = os.environ.get("BNINV_TENSOR_VECTORS")
    if not path:
        pytest.skip("BNINV_TENSOR_VECTORS names no file of results")
    suffix = f"_{'fp16' if dtype == 'f16' else dtype}"
    with np.load(path) as file:
        gpus = sorted(n.removesuffix(f"{suffix}_a") for n in file if n.endswith(f"{suffix}_a"))
        found = {gpu: [file[f"{gpu}{suffix}_{x}"] for x in "abcd"] for gpu in gpus}
    assert found
    for gpu, (a, b, c, d) in found.items():
        name = "H" if gpu in ("H100", "H200", "B200") else "A"
        left, right = patterns(dtype, a), patterns(dtype, b)
        bits = np.ascontiguousarray(c, np.float32).view(np.uint32)
        got = model(dtype, left, right, bits, name)
        assert_same(got, np.ascontiguousarray(d, np.float32), f"{gpu}, C++")
        numpy = reference.multiply_add(
            dtype, left, right, bits.view(np.float32), reference.CLASSES[name]
        )
        assert_same(numpy.view(np.uint32), np.ascontiguousarray(d, np.float32), f"{gpu}, NumPy")
