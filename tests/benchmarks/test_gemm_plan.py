"""Which tile a product gets on CUDA: no bit depends on it, but it has to fit the device."""

from __future__ import annotations

import pytest

from benchmarks.cuda_kernels import gemm_plan
from benchmarks.cuda_kernels.gemm_plan import Product

# Multiprocessors, and bytes of shared memory that a block may ask for: 7.5, 8.6, 8.0, 9.0.
DEVICES = [(40, 64 << 10), (84, 99 << 10), (108, 163 << 10), (132, 227 << 10)]
PRODUCTS = {
    "7x7, 512 channels, batch 1": Product(49, 512, 4608, 1, True, 9),
    "56x56, 64 channels, batch 32": Product(100352, 64, 576, 1, True, 9),
    "stem": Product(12544, 64, 147, 1, False, 49),
    "fully connected": Product(1, 1000, 2048, 1, True, 1),
    "one element": Product(1, 1, 1, 1, False, 1),
    "no terms": Product(5, 8, 0, 1, True, 9),
    "large kernel": Product(100352, 256, 256 * 121, 1, True, 121),
}


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("label", PRODUCTS)
def test_a_plan_fits_the_device(label: str, device: tuple[int, int]) -> None:
    product = PRODUCTS[label]
    processors, shared = device
    plan = gemm_plan.chosen(product, processors, shared)
    assert plan.tile.shared_bytes("float") <= shared
    assert plan.workspace_bytes <= 32 << 20
    segments = -(-product.terms // gemm_plan.SEGMENT)
    parts = -(-segments // plan.own) if segments else 1
    rows, columns = -(-product.rows // plan.tile.rows), -(-product.columns // plan.tile.columns)
    assert plan.blocks == rows * columns * parts
    assert (plan.workspace_bytes > 0) == (parts > 1)


def test_few_outputs_are_split_until_they_fill_the_device() -> None:
    plan = gemm_plan.chosen(PRODUCTS["7x7, 512 channels, batch 1"], 132, 227 << 10)
    assert plan.workspace_bytes > 0 and plan.blocks >= 132


def test_many_outputs_are_not_split() -> None:
    plan = gemm_plan.chosen(PRODUCTS["56x56, 64 channels, batch 32"], 132, 227 << 10)
    assert plan.workspace_bytes == 0


def test_the_largest_tile_has_no_kernel_for_many_taps() -> None:
    product = PRODUCTS["large kernel"]
    tiles = {plan.tile.name for plan in gemm_plan.possible(product, 132, 227 << 10)}
    assert "128x128" not in tiles and "128x64" in tiles
