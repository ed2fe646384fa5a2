"""Whole models: one set of bits for each sample, however it is run."""

from __future__ import annotations

import copy
import itertools

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import bninv
from bninv.loading.calibration import calibrate_batch_norm, randomize_constants
from bninv.testing import assert_bitwise_equal, cpu_capabilities, cpu_capability, different_bits

SIZE = 64  # pixels; small, so that every combination below can be run
BATCH_SIZES = (1, 2, 3, 5, 8, 17)

# Any two of the three in each of their combinations.
ARRANGEMENTS = (
    (torch.no_grad, torch.contiguous_format, 1),
    (torch.no_grad, torch.channels_last, 2),
    (torch.inference_mode, torch.contiguous_format, 2),
    (torch.inference_mode, torch.channels_last, 1),
)

MODELS = {
    **{
        name: lambda name=name: timm.create_model(name)
        for name in ("resnet18", "resnet50", "resnet50d", "resnext50_32x4d")
    },
    "torchvision:resnet50": torchvision.models.resnet50,
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(BATCH_SIZES[-1], 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))


# Bottlenecks and groups are among the families' networks, too.
FAST = ("resnet18",)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in FAST else pytest.mark.exhaustive) for name in MODELS
    ],
)
def stock(request: pytest.FixtureRequest, images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[request.param]().eval()
    randomize_constants(model)
    calibrate_batch_norm(model, images[:4])
    return model


@pytest.fixture(scope="module")
def patched(stock: nn.Module) -> nn.Module:
    return bninv.patch(copy.deepcopy(stock), strict=True)


def run_in_batches(model: nn.Module, images: Tensor, size: int) -> Tensor:
    """Each image once, in batches of `size`; the last batch takes up images from the front."""
    rows = []
    for start in range(0, len(images), size):
        index = torch.arange(start, start + size) % len(images)
        rows.append(model(images[index])[: len(images) - start])
    return torch.cat(rows)


def test_one_set_of_bits_per_sample(patched: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        alone = run_in_batches(patched, images, 1)
    assert alone.isfinite().all()
    assert (alone[0] - alone[1]).abs().max() > 1e-3 * alone.abs().max(), "images look the same"
    # Each size in two of the arrangements, no two sizes in the same two.
    for size, arrangements in zip(
        BATCH_SIZES, itertools.combinations(ARRANGEMENTS, 2), strict=True
    ):
        for context, memory_format, threads in arrangements:
            torch.set_num_threads(threads)
            with context():
                x = images.clone(memory_format=memory_format)
                result = run_in_batches(patched, x, size)
            label = f"{context.__name__}, {memory_format}, {threads} threads, batches of {size}"
            assert_bitwise_equal(result, alone, label)


def test_neighbours_do_not_matter(patched: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        alone = patched(images[:1])
        for fill in (float("nan"), float("inf"), 1e30, 0.0):
            for position in (0, 2):
                batch = torch.full_like(images[:3], fill)
                batch[position] = images[0]
                label = f"at {position} among {fill}"
                assert_bitwise_equal(patched(batch)[position], alone[0], label)


def test_stock_is_close_and_its_bits_move_or_not(
    stock: nn.Module, patched: nn.Module, images: Tensor, record_property
) -> None:
    with torch.no_grad():
        alone = run_in_batches(stock, images, 1)
        moved = {
            size: int(different_bits(run_in_batches(stock, images, size), alone).sum())
            for size in BATCH_SIZES
        }
        ours = patched(images)
    # Whether stock moves depends on the CPU; that is said and decides nothing.
    record_property("stock_elements_moved", str(moved))
    print(f"stock elements moved by batch size, of {alone.numel()}: {moved}")
    reference = copy.deepcopy(stock).double()
    with torch.no_grad():
        exact = reference(images.double())
    error = (ours - exact).abs().mean() / (alone - exact).abs().mean()
    assert error < 8, f"mean error {error:.1f} times stock's"


def test_same_bits_at_every_instruction_set_level(images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18").eval()
    calibrate_batch_norm(model, images[:2])
    bninv.patch(model, strict=True)
    x = images[:1, :, :33, :35]
    with torch.no_grad():
        best = model(x)
        for level in cpu_capabilities():
            with cpu_capability(level):
                assert_bitwise_equal(model(x), best, level)


def test_unpatch_restores_a_whole_model(stock: nn.Module, images: Tensor) -> None:
    model = copy.deepcopy(stock)
    with torch.no_grad():
        before = model(images[:3])
        layout = [p.stride() for p in model.parameters()]
        bninv.unpatch(bninv.patch(model))
        assert [p.stride() for p in model.parameters()] == layout
        assert_bitwise_equal(model(images[:3]), before)
