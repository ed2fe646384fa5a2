"""bninv check --repeat: fresh processes, equal digests, and what it says where they differ."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import bninv
from bninv.checking.repeat import Digests, RepeatResult, digests, in_fresh_processes
from bninv.checking.runner import CheckError
from tests.support.command import Ended, command

MODELS = """
import torch
from torch import nn

def steady():
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, 10))

def unseeded():
    torch.seed()
    return steady()
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Call the command on a model of MODELS; returns its exit status, output and errors."""
    (tmp_path / "my_repeated_models.py").write_text(MODELS)
    call = command(monkeypatch, capsys, tmp_path)
    monkeypatch.delitem(sys.modules, "my_repeated_models", raising=False)

    def run(name: str, *arguments: str) -> Ended:
        options = ["--device", "cpu", "--image-size", "16", *arguments]
        return call("check", f"my_repeated_models:{name}", *options)

    return run


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# ---- Processes -----------------------------------------------------------------------------------


def test_fresh_processes_agree(run) -> None:
    """The whole command. That the processes are new ones is what makes this the proof."""
    status, out, err = run("steady", "--batch-sizes", "1,3", "--repeat", "2", "--json", "r.json")
    assert (status, err) == (0, "")
    assert "Patched: the same bits in all 2 processes." in out
    body = json.loads(Path("r.json").read_text())
    assert body["passed"] is True
    assert body["repeats"]["patched"] is True
    assert body["contract_version"] == bninv.CONTRACT_VERSION
    assert body["weights"] == "random, seed 0, BatchNorm calibrated on the images"
    one, other = body["processes"]
    assert one == other
    assert len({*one.values()}) == 4
    assert one["patched"][:12] in out


def test_each_process_is_a_new_one() -> None:
    assert len({*in_fresh_processes(os.getpid, (), 2), os.getpid()}) == 3


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(CheckError, match="process 1 of 2 ended before it answered"):
        in_fresh_processes(os._exit, (3,), 2)


# ---- Verdicts ------------------------------------------------------------------------------------


def test_weights_that_nothing_seeded(run, here) -> None:
    status, out, _ = run("unseeded", "--repeat", "2")
    assert status == 1
    words = " ".join(out.split())
    assert "The weights differ: processes made different models" in words
    assert "bninv.seed_everything(0)" in words


def test_wrong_usage(run, here) -> None:
    status, out, err = run("missing", "--repeat", "2")
    assert (status, out) == (2, "")
    assert "my_repeated_models has no 'missing'" in err
    status, _, err = run("steady", "--repeat", "1")
    assert status == 2
    assert "--repeat" in err


def result(**different: list[str]) -> RepeatResult:
    columns = {name: different.get(name, ["a", "a", "a"]) for name in Digests.__annotations__}
    rows = [Digests(*row) for row in zip(*columns.values(), strict=True)]
    return RepeatResult("net", "cuda", "float32", (1, 2), rows)


def test_what_differs_is_said() -> None:
    assert result().passed
    stock = result(stock=["a", "b", "a"])
    assert stock.passed
    assert "Stock: does NOT repeat, 2 different results in 3 processes." in str(stock)
    patched = result(patched=["a", "b", "c"])
    assert not patched.passed
    assert "Patched: does NOT repeat, 3 different results in 3 processes." in str(patched)
    assert json.loads(patched.to_json())["repeats"]["patched"] is False
    inputs = result(inputs=["a", "b", "a"])
    assert not inputs.passed
    assert "The inputs differ" in str(inputs)


# ---- Digests -------------------------------------------------------------------------------------


def test_digests_tell_what_changed() -> None:
    found = digests(model(), IMAGES, (1, 2))
    assert digests(model(), IMAGES, (1, 2)) == found
    other_model = model()
    bias = other_model[2].bias.data
    bias[0] = torch.nextafter(bias[0], bias[0] + 1)
    assert digests(other_model, IMAGES, (1, 2)).weights != found.weights
    bias[0] += 0.01
    other = digests(other_model, IMAGES, (1, 2))
    assert other.inputs == found.inputs
    assert other.stock != found.stock
    assert other.patched != found.patched
    assert digests(model(), IMAGES.flip(0), (1, 2)).inputs != found.inputs


def test_a_patched_model_is_taken_as_it_is() -> None:
    assert digests(bninv.patch(model()), IMAGES, (1, 2)) == digests(model(), IMAGES, (1, 2))


def test_a_model_that_fails_says_where() -> None:
    with pytest.raises(CheckError, match="the stock model failed at batch size 2: RuntimeError"):
        digests(model(), IMAGES[:, :2], (2,))
