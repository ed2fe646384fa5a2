"""Whole networks by R9: committed digests of both classes, and one set of bits a sample.

    python -m tests.models.test_tensor_cores --write

The digests change with TENSOR_CONTRACT_VERSION, CONTRACT_VERSION or timm's code alone: a GPU of the
class gives them too.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.bits import digest
from tests.support.places import ROOT
from tests.support.properties import assert_bits, normal

timm = pytest.importorskip("timm")

FILE = ROOT / "tests" / "data" / "tensor_networks.json"
NETWORKS = {"test_resnet": 64, "test_efficientnet": 64, "test_vit": 160}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CLASSES = ("tensor-A", "tensor-H")
CASES = [(name, dtype, kind) for name in NETWORKS for dtype in DTYPES for kind in CLASSES]


def network(name: str, dtype: torch.dtype) -> nn.Module:
    """With weights that NumPy draws: PyTorch's own depend on the processor's instructions."""
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = normal(f"{name} {key}", *tensor.shape)
            if key.endswith("running_var") or (key.endswith("weight") and tensor.dim() == 1):
                values = 0.5 + values.abs()
            elif tensor.dim() > 1:
                values = values / tensor[0].numel() ** 0.5
            else:
                values = 0.1 * values
            tensor.copy_(values)
    return model.to(dtype)


def images(name: str, dtype: torch.dtype) -> Tensor:
    side = NETWORKS[name]
    return normal(f"images {name}", 3, 3, side, side).to(dtype)


def label(name: str, dtype: torch.dtype, kind: str) -> str:
    return f"{name}, {str(dtype).removeprefix('torch.')}, {kind}"


def run(name: str, dtype: torch.dtype, kind: Any) -> tuple[nn.Module, Tensor]:
    model = bninv.patch(network(name, dtype), precision=kind)
    with torch.inference_mode():
        return model, model(images(name, dtype)[:1])


@pytest.mark.parametrize(("name", "dtype", "kind"), CASES, ids=str)
def test_committed_digests(name: str, dtype: torch.dtype, kind: Any) -> None:
    committed = json.loads(FILE.read_text())
    assert committed["contract_version"] == bninv.CONTRACT_VERSION
    assert committed["tensor_contract_version"] == bninv.TENSOR_CONTRACT_VERSION
    model, alone = run(name, dtype, kind)
    assert alone.isfinite().all() and alone.unique().numel() > alone.numel() // 4
    assert digest([alone]) == committed["digests"][label(name, dtype, kind)]
    if dtype is torch.bfloat16 and name == "test_resnet":
        with torch.inference_mode():
            batch = images(name, dtype)[[2, 0, 1]]
            assert_bits(model(batch)[1:2], alone, "in a batch")
            batch[[0, 2]] = torch.nan
            assert_bits(model(batch)[1:2], alone, "beside NaN")


def test_classes_and_ieee_differ() -> None:
    committed = json.loads(FILE.read_text())["digests"]
    for name in NETWORKS:
        # Not always in half types, whose rounding hides most of what the classes differ in.
        found = {committed[label(name, torch.float32, kind)] for kind in CLASSES}
        _, ieee = run(name, torch.float32, "ieee")
        assert len({*found, digest([ieee])}) == 3


def write() -> None:
    body = {
        "contract_version": bninv.CONTRACT_VERSION,
        "tensor_contract_version": bninv.TENSOR_CONTRACT_VERSION,
        "digests": {label(*case): digest([run(*case)[1]]) for case in CASES},
    }
    FILE.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
