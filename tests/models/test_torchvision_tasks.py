"""torchvision's detectors, segmenters, video and flow networks, whole: one set of bits a sample.

Random weights, calibrated, with score thresholds of 0 so that there is something to compare. A
detector concatenates the boxes of all images before its heads: what follows must not know how many
a neighbour has, so the neighbours change too.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv._structure import leaves
from bninv.loading.calibration import calibrate_batch_norm
from bninv.loading.detectors import prepare_untrained
from bninv.loading.images import find_images
from bninv.loading.models import load_model
from bninv.loading.samples import load_inputs
from tests.support.properties import assert_bits

models = pytest.importorskip("torchvision.models")

COUNT = 5
# In `make test`; the others of a kind share most of its code.
QUICK = {
    "retinanet_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "r3d_18",
    "raft_small",
}


def names(module: Any) -> list[Any]:
    slow = pytest.mark.exhaustive
    known = models.list_models(module=module)
    return [pytest.param(name, marks=() if name in QUICK else slow) for name in known]


def made(name: str, side: int | None) -> tuple[nn.Module, Any]:
    """A stock model and five samples for it."""
    loaded = load_model(f"torchvision:{name}")
    prepare = loaded.preprocess.resized(side)
    inputs, _ = load_inputs(loaded.kind, find_images(None), COUNT, prepare, loaded.frames)
    if loaded.kind == "detection":
        prepare_untrained(loaded.model, prepare.size[1])
    calibrate_batch_norm(loaded.model, inputs[:2] if isinstance(inputs, (Tensor, list)) else inputs)
    return loaded.model, inputs


def patched(model: nn.Module) -> nn.Module:
    """Patched so that whatever is not covered is an error."""
    return bninv.patch(model, strict=True)


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", bninv.NotInvariantWarning)
        yield


@pytest.mark.parametrize("name", names(models.detection))
def test_detections(name: str) -> None:
    model, images = made(name, 96)
    model = patched(model)
    # Noise finds other boxes than photographs, and more or fewer of them; NaN finds none, or all.
    noise = torch.rand(images[0].shape, generator=torch.Generator().manual_seed(0))
    strange = [noise, torch.full_like(noise, torch.nan), torch.zeros_like(noise)]
    with torch.inference_mode():
        alone = [model([image])[0] for image in images]
        assert all(len(found["boxes"]) >= 20 for found in alone)
        batches = [[0, 1], [3, 2, 1, 0], [4, 0, 3, 1, 2], [2, -1, -3], [-2, 4]]
        for batch in batches:
            given = [images[i] if i >= 0 else strange[-i - 1] for i in batch]
            for place, (i, found) in enumerate(zip(batch, model(given), strict=True)):
                if i < 0:
                    continue
                assert found.keys() == alone[i].keys()
                for key, value in found.items():
                    assert_bits(value, alone[i][key], f"{key} of image {i} at {place} of {batch}")


def check_batches(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    model = patched(model)

    def run(samples: list[int]) -> dict[str, Tensor]:
        return dict(leaves(model(*(tensor[samples] for tensor in inputs))))

    with torch.inference_mode():
        alone = [run([i]) for i in range(3)]
        for batch in ([2, 0], [1, 2, 0]):
            for path, whole in run(batch).items():
                for place, i in enumerate(batch):
                    assert_bits(whole[place], alone[i][path][0], f"{path} of {i} in {batch}")


@pytest.mark.parametrize("name", names(models.segmentation))
def test_segmentation(name: str) -> None:
    model, images = made(name, 96)
    check_batches(model, (images,))


@pytest.mark.parametrize("name", names(models.video))
def test_video(name: str) -> None:
    model, clips = made(name, None if name[:4] in ("s3d", "mvit") else 64)
    check_batches(model, (clips,))


@pytest.mark.parametrize("name", names(models.optical_flow))
def test_optical_flow(name: str) -> None:
    model, pairs = made(name, 128)
    check_batches(model, pairs)
