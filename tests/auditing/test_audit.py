"""record and audit: what a patched model gave is computed again elsewhere, and compared."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.auditing import Record
from tests.support.properties import normal

CLASSES = ("ieee", "tensor-A", "tensor-H")


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Conv2d(32, 48, 3, stride=2),
        nn.Flatten(),
        nn.Linear(48 * 4, 10),
    )
    return model.eval()


def recorded(precision: Any = "tensor-H", **options: Any) -> Record:
    model = bninv.patch(network(), precision=precision)
    return bninv.record(model, normal("x", 3, 3, 7, 7), **options)


@pytest.mark.parametrize("precision", CLASSES)
@pytest.mark.parametrize("values", [False, True])
def test_equal(precision: Any, values: bool, tmp_path: Path) -> None:
    path = tmp_path / "record.safetensors"
    made = recorded(precision, path=path, values=values, source={"name": "network", "seed": 0})
    assert made.arithmetic == precision and made.contract_version == bninv.CONTRACT_VERSION
    names = [layer.name for layer in made.layers]
    assert names == ["0.0", "0.1", "0.2", "0", "1", "2", "3", ""]
    for found in (made, path, str(path)):
        result = bninv.audit(found, network())
        assert result.equal and result.first is None and not result.outputs, str(result)
        assert result.layers == 8 and "Equal: every output and all 8 layers" in str(result)
    # A patched model serves as well, whatever its own precision, and stays what it is.
    model = bninv.patch(network())
    assert bninv.audit(path, model).equal
    assert {p.precision for p in bninv.products(model)} == {"ieee"}
    assert type(bninv.unpatch(model)[1]) is nn.Conv2d
    loaded = Record.load(path)
    assert loaded.source == {"name": "network", "seed": 0} and loaded.weights == made.weights
    assert torch.equal(loaded.outputs["output"], made.outputs["output"])
    assert (loaded.values is None) == (not values)


def test_classes_differ() -> None:
    outputs = [recorded(precision).outputs["output"] for precision in CLASSES]
    assert not any(torch.equal(a, b) for a in outputs for b in outputs if a is not b)
    # By the arithmetic of another class the record is not to be had.
    found = recorded("tensor-H")
    found.arithmetic = "tensor-A"
    result = bninv.audit(found, network())
    assert not result.equal and result.first is not None and result.first.name == "0.0"


def test_in_another_process(tmp_path: Path) -> None:
    """A GPU's place is taken by the emulation of its class."""
    path = tmp_path / "record.safetensors"
    with bninv.emulate("tensor-H"):
        model = bninv.patch(network().bfloat16(), precision="tensor")
        made = bninv.record(model, normal("x", 3, 3, 7, 7).bfloat16(), path)
    assert (made.arithmetic, made.dtype) == ("tensor-H", "bfloat16")
    code = (
        "import bninv; from tests.auditing.test_audit import network; import sys;"
        "print(bninv.audit(sys.argv[1], network()).to_json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["equal"] and result["arithmetic"] == "tensor-H", result


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("name", ["0.0", "1", "3"])
def test_one_flipped_bit_of_a_weight_is_found_by_its_layer(name: str, values: bool) -> None:
    found, other = recorded(values=values), network()
    weight = other.get_submodule(name).weight
    with torch.no_grad():
        weight.view(-1).view(torch.int32)[5] ^= 1 << 20
    result = bninv.audit(found, other)
    assert not result.equal and result.weights == [f"{name}.weight"]
    assert result.first is not None and result.first.name == name and not result.broken
    assert (result.first.differing is not None) == values
    if values:
        assert 0 < result.first.differing <= result.first.elements and result.first.max_abs > 0
    (output,) = result.outputs
    assert output.name == "output" and output.differing > 0 and output.max_ulp
    said = str(result)
    assert f"The first layer that differs is {name} (" in said and f"(1): {name}.weight." in said


def test_a_layer_that_computes_otherwise_is_found() -> None:
    class Scaled(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() * 1.0000001

    other = network()
    other[0][2] = Scaled()
    result = bninv.audit(recorded(values=True), other)
    assert result.weights == [] and result.first is not None
    assert (result.first.name, result.first.kind) == ("0.2", "Scaled")


def test_a_flipped_bit_in_the_record_is_found() -> None:
    found = recorded(values=True)
    found.outputs["output"].view(torch.int32)[1, 2] ^= 1
    result = bninv.audit(found, network())
    assert not result.equal and "its outputs are not those" in result.broken
    (output,) = result.outputs
    assert (output.differing, output.elements, output.max_ulp) == (1, 30, 1)
    assert "Somebody has changed the file" in str(result)

    found = recorded(values=True)
    assert found.values is not None
    found.values[1][0].view(torch.int32)[0, 1, 2, 3] ^= 1
    result = bninv.audit(found, network())
    assert not result.equal and "the values of 0.1 are not those" in result.broken

    found = recorded()
    found.layers[4].digest = "0" * 64
    result = bninv.audit(found, network())
    assert not result.equal and result.first is not None and result.first.name == "1"


def test_another_model() -> None:
    found = recorded()
    longer = nn.Sequential(*network(), nn.Identity()).eval()
    result = bninv.audit(found, longer)
    assert not result.equal and result.first is not None
    shorter = network()
    shorter[0][1] = nn.Identity()
    result = bninv.audit(found, shorter)
    assert result.first is not None and result.first.name == "0.1"
    assert "0.1.weight" in result.weights and "0.1.running_mean" in result.weights


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, a: Tensor, more: dict[str, Any]) -> dict[str, Any]:
        b = self.layer(self.layer(a))
        return {"b": b, "rest": [b + more["c"], (a, more["flag"])]}


def test_structures_and_layers_called_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock = Several().eval()
    inputs = {
        "a": normal("a", 2, 8),
        "more": {"c": normal("c", 1, 8), "flag": True, "n": [1, None]},
    }
    path = tmp_path / "r.safetensors"
    made = bninv.record(bninv.patch(copy.deepcopy(stock)), inputs, path, values=True)
    assert list(made.outputs) == ["output['b']", "output['rest'][0]", "output['rest'][1][0]"]
    assert [(layer.name, layer.call) for layer in made.layers] == [
        ("layer", 0),
        ("layer", 1),
        ("", 0),
    ]
    loaded = Record.load(path)
    assert loaded.inputs["more"]["n"] == [1, None] and loaded.inputs["more"]["flag"] is True
    assert bninv.audit(loaded, stock).equal
    in_order = bninv.record(bninv.patch(copy.deepcopy(stock)), tuple(inputs.values()), path)
    assert isinstance(in_order.inputs, tuple) and bninv.audit(path, stock).equal


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: bninv.unpatch(m), "`model` is a stock Sequential"),
        (lambda m: m[0].train(), "`model` is in training mode, in part or whole"),
    ],
)
def test_what_is_no_model_to_record(change: Any, error: str) -> None:
    model = bninv.patch(network())
    change(model)
    with pytest.raises(ValueError, match=error):
        bninv.record(model, normal("x", 3, 3, 7, 7))


def test_what_cannot_be_recorded(tmp_path: Path) -> None:
    model, x = bninv.patch(network()), normal("x", 3, 3, 7, 7)
    with pytest.raises(ValueError, match="autocast is on"), torch.autocast("cpu", torch.bfloat16):
        bninv.record(model, x)
    with pytest.raises(ValueError, match="`inputs` holds"):
        bninv.record(model, (x, object()))
    with pytest.raises(ValueError, match="it may hold tensors"):
        bninv.record(model, 3)
    with pytest.raises(ValueError, match="`model` is 3"):
        bninv.audit(recorded(), 3)
    text = tmp_path / "text"
    text.write_text("no record")
    for path in (text, tmp_path / "missing"):
        with pytest.raises(ValueError, match="not a record that can be read"):
            bninv.audit(path, network())
    from safetensors.torch import save_file

    save_file({"x": x}, str(text))
    with pytest.raises(ValueError, match="its format is None"):
        bninv.audit(text, network())


@pytest.mark.filterwarnings("ignore::bninv.NotInvariantWarning")
def test_random_results_are_not_recorded() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(3)

    model = bninv.patch(nn.Sequential(Noisy()).eval())
    with pytest.raises(RuntimeError, match="other bits when it ran a second time"):
        bninv.record(model, normal("x", 2, 3))


@pytest.mark.parametrize("name", ["contract_version", "tensor_contract_version"])
def test_other_versions_of_the_rules_are_not_compared(name: str) -> None:
    found = recorded()
    setattr(found, name, 99)
    with pytest.raises(ValueError, match="the record's .*version.* is 99; it may be 1"):
        bninv.audit(found, network())


def test_a_gpu_of_the_other_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from bninv.auditing import comparison

    monkeypatch.setattr(comparison, "arithmetic", lambda device: "tensor-A")
    with pytest.raises(ValueError, match="`device` is cuda:0, whose tensor cores are tensor-A"):
        bninv.audit(recorded("tensor-H"), network(), "cuda:0")
