"""Networks of every kind: one set of bits a sample, nothing uncovered, and about as
close to the exact result as stock PyTorch."""

from __future__ import annotations

import copy
import itertools
import json
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.audit import find_uncovered
from bninv.loading.calibration import calibrate_batch_norm, randomize_constants
from bninv.testing import assert_bitwise_equal
from tests.support.families import FAST, IN_HALF, cases
from tests.support.places import DATA

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = cases()
# Of each network: how many chains fuse, and of how many calls.
CHAINS = json.loads((DATA / "chains.json").read_text())
GRAD_MODES = {2: torch.inference_mode, 3: torch.no_grad, 5: torch.enable_grad}
# Times stock's own error against float64, or one unit in the last place of the largest output.
WORST_ERROR = 8


def stock_model(name: str) -> tuple[nn.Module, Tensor]:
    make, size = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    randomize_constants(model)
    images = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    calibrate_batch_norm(model, images)
    return model, images


def check_invariance(model: nn.Module, images: Tensor) -> Tensor:
    """Each image alone; then in batches of 2, 3 and 5, each in another grad mode."""
    with torch.no_grad():
        alone = torch.cat([model(image.unsqueeze(0)) for image in images])
    assert alone.isfinite().all()
    for a, b in itertools.combinations(alone.double(), 2):
        assert (a - b).abs().max() > 1e-3 * torch.maximum(a.abs().max(), b.abs().max()), "the same"
    for size, grad_mode in GRAD_MODES.items():
        with grad_mode():
            together = model(images[-size:]).detach()
        assert_bitwise_equal(together, alone[-size:], f"batch {size}, {grad_mode.__name__}")
    return alone


def error(result: Tensor, exact: Tensor) -> float:
    return float((result.double() - exact).abs().max())


def networks(names: Iterable[str]) -> list[Any]:
    """All; those that are not in FAST are for `make test-all`."""
    return [
        pytest.param(name, marks=[] if name in FAST else pytest.mark.exhaustive) for name in names
    ]


@pytest.mark.parametrize("name", networks(CASES))
def test_family(name: str) -> None:
    stock, images = stock_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", bninv.NotInvariantWarning)
        patched = bninv.patch(copy.deepcopy(stock))
        alone = check_invariance(patched, images)
        unfused = bninv.patch(copy.deepcopy(stock), fuse=False)
        with torch.inference_mode():
            assert_bitwise_equal(patched(images), unfused(images), "fused and unfused")
    found = bninv.fusion(patched)
    assert found.chains >= CHAINS[name][0] and found.calls >= CHAINS[name][1], str(found)
    assert bninv.uncovered(patched) == []
    assert find_uncovered(patched, images[:2]) == []
    with torch.no_grad():
        stock_error = stock(images)
        exact = stock.double()(images.double())
    unit = torch.finfo(torch.float32).eps * float(exact.abs().max())
    allowed = WORST_ERROR * max(error(stock_error, exact), unit)
    assert error(alone, exact) <= allowed, f"{error(alone, exact):.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", networks(IN_HALF))
def test_family_in_half_precision(name: str, dtype: torch.dtype) -> None:
    stock, images = stock_model(name)
    patched = bninv.patch(copy.deepcopy(stock).to(dtype))
    check_invariance(patched, images.to(dtype))
    assert find_uncovered(patched, images[:2].to(dtype)) == []
