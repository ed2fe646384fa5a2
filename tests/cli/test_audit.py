"""`bninv check --precision`, `--save` and `bninv audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bninv
from bninv.auditing import Record
from tests.support.command import FAST, TINY, Run, command

pytest.importorskip("timm")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(1)
    return command(monkeypatch, capsys, tmp_path)


def test_a_saved_result_is_confirmed_and_a_flipped_bit_found(run: Run, tmp_path: Path) -> None:
    saved = run("check", TINY, *FAST, "--precision", "tensor-H", "--save", "r", "--json", "j")
    assert saved.status == 0, saved.err
    assert "precision tensor-H: 16 of 16 convolutions and linear" in " ".join(saved.out.split())
    found = json.loads((tmp_path / "j").read_text())["patched"]["tensor_cores"]
    assert found == {
        "precision": "tensor-H",
        "arithmetic": "tensor-H",
        "layers": 16,
        "left_out": [],
    }
    again = run("audit", "r", "--json", "audit.json")
    assert again.status == 0 and again.out.startswith("Equal: every output and all "), again
    assert json.loads((tmp_path / "audit.json").read_text())["equal"]
    assert run("audit", "r", "--quiet").out == ""
    # Stock's float32 is not the arithmetic, and neither is the other class's.
    record = Record.load(tmp_path / "r")
    assert record.arithmetic == "tensor-H" and record.source["model"] == TINY
    assert record.state.keys() >= {"bn1.running_mean"}
    record.arithmetic = "tensor-A"
    record.save(tmp_path / "other")
    other = run("audit", "other")
    assert other.status == 1 and "The first layer that differs is conv1.0 (Conv2d)" in other.out
    # One bit of one weight.
    record = Record.load(tmp_path / "r")
    record.state["layer2.0.bn1.running_var"].view(torch.int32)[3] ^= 1 << 18
    record.save(tmp_path / "flipped")
    flipped = run("audit", "flipped")
    assert flipped.status == 1
    text = " ".join(flipped.out.split())
    assert "Other weights (1): layer2.0.bn1.running_var." in text
    assert "The first layer that differs is layer2.0.bn1 (BatchNorm2d)" in text


def test_weights_from_a_file(run: Run, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model(TINY).state_dict(), weights)
    given = ("--checkpoint", weights)
    assert run("check", TINY, *FAST, *given, "--save", "r").status == 0
    assert not Record.load(tmp_path / "r").state
    assert run("audit", "r", *given).status == 0
    without = run("audit", "r")
    assert without.status == 2 and "its weights were from weights.pt" in without.err
    other = run("audit", "r", "--model", TINY)
    assert other.status == 1 and "Other weights (" in other.out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("audit", "missing"), "missing: not a record that can be read"),
        (("check", TINY, "--save", "no/folder"), "--save no/folder"),
        (("check", TINY, "--save", "r", "--repeat", "2"), "--repeat compares several"),
        (("check", TINY, "--precision", "tensor", "--repeat", "2"), "--repeat compares"),
        (("check", TINY, "--precision", "tf32"), "tf32"),
        (("check", TINY, *FAST, "--precision", "tensor"), "on the CPU, which has no tensor cores"),
    ],
)
def test_errors(run: Run, arguments: tuple[str, ...], error: str) -> None:
    ended = run(*arguments)
    assert ended.status == 2 and error in ended.err, ended


def test_a_record_without_a_name_asks_for_one(run: Run, tmp_path: Path) -> None:
    model = bninv.patch(torch.nn.Sequential(torch.nn.Linear(3, 2)).eval())
    bninv.record(model, torch.ones(2, 3), tmp_path / "r")
    ended = run("audit", "r")
    assert ended.status == 2 and "it does not name its model; give --model" in ended.err


def test_check_of_a_model_that_is_patched_already() -> None:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(3, 64, 3), torch.nn.Conv2d(64, 64, 3, groups=4))
    model = bninv.patch(torch.nn.Sequential(*layers).eval(), precision="tensor-A")
    inputs = torch.randn(4, 3, 9, 9)
    found = bninv.check(model, inputs, (1, 3))
    cores = found.patched.tensor_cores
    assert cores is not None and (cores.precision, cores.layers) == ("tensor-A", 2)
    (left,) = cores.left_out
    assert left.startswith("1 (Conv2d): ieee: groups of 16 input channels")
    assert f"IEEE: {left}" in " ".join(str(found).split())
    assert found.passed and "more than rounding explains" not in str(found)
    other = bninv.check(model, inputs, (1, 3), precision="ieee")
    assert other.patched.tensor_cores is None and "tensor_cores" not in other.to_json()
    assert other.patched.digests != found.patched.digests
    assert {p.precision for p in bninv.products(model)} == {"tensor-A", "ieee"}
    with pytest.raises(ValueError, match="`precision` is 'half'"):
        bninv.check(model, inputs, precision="half")
