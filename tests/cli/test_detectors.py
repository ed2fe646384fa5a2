"""bninv check of detectors, video and optical flow: what they are fed, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bninv.detection import Images
from bninv.loading.calibration import calibrate_batch_norm
from bninv.loading.detectors import prepare_untrained
from bninv.loading.images import Preprocess, find_images
from bninv.loading.models import load_model
from bninv.loading.samples import load_inputs, load_mixed
from bninv.loading.usage import UsageError
from tests.support.command import Run, command
from tests.support.page import Page

pytest.importorskip("torchvision")

TINY = "tests.support.detectors:tiny"
UNSEEDED = """
import torch
from tests.support.detectors import tiny

def seeded():
    return tiny(seed=3)

def unseeded():
    return tiny(seed=torch.initial_seed())
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    torch.set_num_threads(1)
    (tmp_path / "my_detectors.py").write_text(UNSEEDED)
    return command(monkeypatch, capsys, tmp_path)


FAST = ("--image-size", "64", "--batch-sizes", "1,3")


def test_the_whole_command(run) -> None:
    files = ("--json", "r.json", "--html", "page.html")
    ended = run("check", TINY, *FAST, "--sizes", "mixed", *files)
    body = json.loads(Path("r.json").read_text())
    # Until torchvision's own kernels are covered, and then not: the operators left decide.
    assert ended.status == (1 if body["patched"]["uncovered"] else 0)
    assert body["patched"]["invariant"] is True
    alone, batch = body["patched"]["detections"]
    assert (alone["changed"], batch["changed"], batch["images"]) == (0, 0, 8)
    assert batch["detections"] >= 20 * 8
    assert body["padding"]["sizes"][:3] == [[64, 64], [32, 64], [64, 32]]
    assert body["padding"]["fixed"]["changed"] == 0
    words = " ".join(ended.out.split())
    assert "Patched: no image's detections changed, nor their order." in words
    assert "a batch is padded to its largest image" in words
    assert max(map(len, ended.out.splitlines())) <= 100
    page = Page(Path("page.html").read_text())
    assert "Detections." in page.words
    stock_moved = body["stock"]["detections"][1]["changed"]
    assert (page.tags["image"] > 0) is bool(stock_moved)


def test_padding_does_not_count_for_the_exit_status(run) -> None:
    plain = run("check", TINY, *FAST)
    mixed = run("check", TINY, *FAST, "--sizes", "mixed")
    assert plain.status == mixed.status
    assert "padding" not in plain.out.lower()


def test_mixed_sizes_are_for_detectors(run) -> None:
    ended = run("check", "torchvision:resnet18", *FAST, "--sizes", "mixed")
    assert (ended.status, ended.out) == (2, "")
    assert "--sizes mixed: torchvision:resnet18 is no detector" in ended.err
    ended = run("check", TINY, *FAST, "--sizes", "mixed", "--repeat", "2")
    assert ended.status == 2
    assert "--sizes mixed" in ended.err


@pytest.mark.slow
def test_repeat_tells_the_causes_apart(run) -> None:
    ended = run("check", "my_detectors:unseeded", *FAST, "--repeat", "2", "--json", "r.json")
    assert ended.status == 0, ended.err
    body = json.loads(Path("r.json").read_text())
    found = body["detections"]
    assert [row["changed"] for row in found["processes"]["patched"]] == [0, 0]
    assert [row["changed"] for row in found["batches"]["patched"]] == [0, 0]
    assert found["unseeded"] == 2
    words = " ".join(ended.out.split())
    assert "(a) The run: 2 processes with the same weights and batches." in words
    assert "(b) The batch: sizes 1, 3, within one process." in words
    assert "Made without a seed, 2 processes had 2 different models" in words
    ended = run("check", "my_detectors:seeded", *FAST, "--repeat", "2", "--json", "r.json")
    assert json.loads(Path("r.json").read_text())["detections"]["unseeded"] == 1
    assert "the model's own code loads or seeds them" in " ".join(ended.out.split())


# ---- Loading -------------------------------------------------------------------------------------


def test_a_detector_with_random_weights_finds_something() -> None:
    loaded = load_model("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn")
    assert (loaded.kind, loaded.untrained) == ("detection", True)
    inputs, _ = load_inputs("detection", find_images(None), 2, loaded.preprocess)
    assert isinstance(inputs, Images)
    assert inputs[0].shape == (3, 128, 128)
    assert inputs[0].min() >= 0 and inputs[0].max() <= 1  # the model's transform normalizes
    said = prepare_untrained(loaded.model, 128)
    assert said == [
        "score thresholds lowered to 0.0",
        "images resized to 128 pixels instead of 320",
    ]
    assert calibrate_batch_norm(loaded.model, inputs) > 40
    with torch.no_grad():
        found = loaded.model(list(inputs))
    assert min(len(one["boxes"]) for one in found) >= 20


def test_a_model_of_one_size_keeps_it() -> None:
    loaded = load_model("torchvision:ssdlite320_mobilenet_v3_large")
    assert prepare_untrained(loaded.model, 128) == ["score thresholds lowered to 0.0"]
    assert loaded.model.transform.fixed_size == (320, 320)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "frames"),
    [
        ("fcn_resnet50", "image", (3, 128, 128), 1),
        ("r3d_18", "video", (3, 112, 112), 8),
        ("raft_small", "flow", (3, 128, 128), 1),
        ("resnet18", "image", (3, 224, 224), 1),
    ],
)
def test_what_models_are_fed(name: str, kind: str, shape: object, frames: int) -> None:
    loaded = load_model(f"torchvision:{name}")
    assert (loaded.kind, loaded.preprocess.size, loaded.frames) == (kind, shape, frames)


def test_clips_and_pairs_move() -> None:
    small, paths = Preprocess(size=(3, 16, 16)), find_images(None)
    clip, names = load_inputs("video", paths, 2, small, 4)
    assert clip.shape == (2, 3, 4, 16, 16)
    assert len(names) == 2
    assert torch.equal(clip[:, :, 1, :-2, :-2], clip[:, :, 0, 2:, 2:])
    first, second = load_inputs("flow", paths, 2, Preprocess(size=(3, 128, 128)))[0]
    assert torch.equal(second[:, :, :-3, :-5], first[:, :, 3:, 5:])


@pytest.mark.parametrize("side", [64, 130])
def test_flow_has_sizes_of_its_own(side: int) -> None:
    with pytest.raises(UsageError, match="takes multiples of 8, at least 128"):
        load_inputs("flow", find_images(None), 2, Preprocess(size=(3, side, side)))


def test_mixed_images_are_of_three_shapes() -> None:
    images = load_mixed(find_images(None), 4, Preprocess(size=(3, 32, 32)))
    assert [tuple(i.shape[1:]) for i in images] == [(32, 32), (16, 32), (32, 16), (32, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raft_small", "r3d_18", "fcn_resnet50"])
def test_models_that_are_no_classifiers(run, name: str) -> None:
    size = "128" if name == "raft_small" else "32"
    ended = run(
        "check",
        f"torchvision:{name}",
        *("--image-size", size, "--batch-sizes", "1,2", "--json", "r.json"),
    )
    assert ended.status in (0, 1), ended.err
    body = json.loads(Path("r.json").read_text())
    assert body["patched"]["invariant"] is True
    assert body["patched"]["finite"] is True
