"""torchvision's detectors, of few channels: checked, blamed, repeated, and padded to one shape."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.bits import same_bits
from bninv.checking.detections import Changes
from bninv.checking.repeat import digests
from bninv.checking.repeat_detections import Found, summarize
from bninv.detection import Images, fixed_size, is_detector
from tests.support.detectors import SIDE, Told, pictures, shapes, tiny

pytest.importorskip("torchvision")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
]

KINDS = ("faster_rcnn", "retinanet", "fcos", "mask_rcnn", "keypoint_rcnn")


@pytest.mark.parametrize("kind", KINDS)
def test_patched_detectors_do_not_depend_on_the_batch(kind: str) -> None:
    result = bninv.check(tiny(kind), list(pictures()), (1, 3))
    row = (result.patched.detections or [])[1]
    assert (row.changed, row.counts) == (0, Changes())
    assert row.detections > 20
    assert result.invariant
    assert result.patched.finite and result.patched.distinct
    assert result.patched.deviation < 1e-3
    assert result.uncovered == [] and result.passed


def test_culprits_are_found_behind_the_transform() -> None:
    """The batch is a list until the transform makes a tensor of it."""
    result = bninv.check(tiny(), pictures(), (1, 3))
    if result.stock.invariant:
        pytest.skip("this machine's stock convolutions do not depend on the batch")
    assert "convolution" in {culprit.kind for culprit in result.culprits}
    assert not any("roi" in culprit.kind for culprit in result.culprits)


def test_a_batch_of_one_tensor_will_do() -> None:
    images = pictures()
    a, b = (bninv.check(tiny(), x, (1, 3)) for x in (images, torch.stack(list(images))))
    assert a.stock.digests == b.stock.digests
    assert a.patched.digests == b.patched.digests


def test_is_detector() -> None:
    assert is_detector(tiny())
    assert is_detector(nn.Sequential(tiny()))
    assert not is_detector(nn.Conv2d(3, 3, 3))
    assert not is_detector(Told())


# ---- Images of several sizes ---------------------------------------------------------------------


def test_padding_is_counted_and_fails_nothing() -> None:
    result = bninv.check(tiny(), pictures(), (1, 3), mixed=shapes())
    padding = result.padding
    assert padding is not None
    assert padding.sizes == [(64, 64), (32, 64), (64, 40), (20, 24)]
    assert padding.patched.images == padding.stock.images == 4
    assert padding.patched.changed > 0  # by meaning
    assert padding.canvas == (64, 64)
    assert padding.fixed is not None and padding.fixed.changed == 0
    assert result.invariant
    assert result.to_dict()["padding"]["canvas"] == (64, 64)
    text = " ".join(str(result).split())
    assert "a batch is padded to its largest image" in text
    assert "bninv.detection.fixed_size(model, (64, 64)): none changed" in text


def test_images_of_several_sizes_are_remarked_on() -> None:
    """They fail for their padding; under fixed_size they are samples as others are."""
    result = bninv.check(tiny(), list(shapes()), (1, 3))
    assert not result.invariant
    assert "The images are of several sizes" in result.notes[0]
    assert bninv.check(fixed_size(tiny(), (64, 64)), list(shapes()), (1, 3)).invariant
    assert not bninv.check(tiny(), pictures(), (1, 3)).notes


def test_detectors_of_others_have_no_fixed_size() -> None:
    padding = bninv.check(Told(), pictures(), (1, 2), mixed=shapes()).padding
    assert padding is not None
    assert (padding.canvas, padding.fixed) == (None, None)
    assert padding.patched.changed == 0


def same(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> bool:
    return all(
        x.keys() == y.keys() and all(same_bits(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_size_alone_and_beside_others(kind: str) -> None:
    """At any position, in a batch of any shapes: the same bits, in the same order."""
    model = bninv.patch(fixed_size(tiny(kind), (96, 128)))
    images = shapes()
    with torch.no_grad():
        alone = [model([image])[0] for image in images]
        for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3], [3, 3, 0]):
            batch = model([images[index] for index in order])
            assert same(batch, [alone[index] for index in order])


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_before_or_after_patching(kind: str) -> None:
    images = list(shapes())
    before = bninv.patch(fixed_size(tiny(kind), (96, 128)))
    after = fixed_size(bninv.patch(tiny(kind)), (96, 128))
    with torch.no_grad():
        assert same(before(images), after(images))
        # And still after both are taken back.
        stock = fixed_size(tiny(kind), (96, 128))
        assert same(bninv.unpatch(after)(images), stock(images))


def test_it_is_undone() -> None:
    images = list(shapes())
    plain, model = tiny(), tiny()
    keys = list(model.state_dict())
    with torch.no_grad():
        fixed = fixed_size(model, (96, 128))(images)
        assert list(model.state_dict()) == keys
        again = fixed_size(model, (128, 96))(images)
        assert not same(fixed, plain(images)) or not same(again, plain(images))
        assert same(fixed_size(model, None)(images), plain(images))
    assert "batch_images" not in vars(model.transform)
    assert not model.roi_heads.box_roi_pool._forward_pre_hooks
    fixed_size(model, None)


def test_copies_keep_it_and_other_models_have_none() -> None:
    images = list(shapes())
    model, other = fixed_size(tiny(), (96, 128)), tiny()
    with torch.no_grad():
        expected = model(images)
        assert same(copy.deepcopy(model)(images), expected)
        assert same(pickle.loads(pickle.dumps(model))(images), expected)
        other.load_state_dict(model.state_dict())
        assert "batch_images" not in vars(other.transform)
    # Undoing it in a copy leaves the model alone.
    fixed_size(copy.deepcopy(model), None)
    with torch.no_grad():
        assert same(model(images), expected)


def test_regions_are_found_in_features_of_a_much_larger_shape() -> None:
    """torchvision tells a feature's scale by the largest image of the first batch, to the nearest
    power of two: under much padding, the wrong one.
    """
    model = tiny()
    scales = []
    for size in ((64, 64), (256, 256)):
        model = fixed_size(tiny(), size)
        with torch.no_grad():
            model(list(pictures(1)))
        scales.append(model.roi_heads.box_roi_pool.scales)
    assert scales == [[1 / 16], [1 / 16]]


def test_what_was_seen_before_decides_nothing() -> None:
    images = list(shapes())
    model, fresh = tiny(), fixed_size(tiny(), (256, 256))
    with torch.no_grad():
        model(images)
        assert same(fixed_size(model, (256, 256))(images), fresh(images))


def test_the_aspect_is_kept_and_the_rest_is_zero() -> None:
    model: Any = fixed_size(tiny(), (96, 128))
    batched, _ = model.transform([torch.rand(3, 40, 80), torch.rand(3, 80, 40)])
    assert batched.tensors.shape == (2, 3, 96, 128)
    assert batched.image_sizes == [(32, 64), (64, 32)]
    assert bool((batched.tensors[0, :, 32:] == 0).all())
    assert bool((batched.tensors[1, :, :, 32:] == 0).all())
    plain: Any = tiny()
    expected, _ = plain.transform([torch.ones(3, 40, 80)])
    got, _ = model.transform([torch.ones(3, 40, 80)])
    assert same_bits(got.tensors[0, :, :32, :64], expected.tensors[0, :, :32, :64])


def test_each_image_is_resized_by_itself() -> None:
    """The resize of a patched model: one image at a time, and covered."""
    model: Any = bninv.patch(tiny())
    images = shapes()
    with torch.no_grad():
        alone = [model.transform([image])[0] for image in images]
        batch = model.transform(list(images))[0]
    for index, one in enumerate(alone):
        (height, width) = one.image_sizes[0]
        assert batch.image_sizes[index] == (height, width)
        part = batch.tensors[index, :, :height, :width]
        assert same_bits(part, one.tensors[0, :, :height, :width])
    assert not any(entry.operator.startswith("aten::upsample") for entry in _uncovered(model))


def _uncovered(model: nn.Module) -> Any:
    return bninv.check(model, pictures(2), (1, 2)).uncovered


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((100, 128), r"size: got \(100, 128\), must be multiples of 32, such as \(128, 128\)"),
        ((64, 64, 3), "must be \\(height, width\\), two whole numbers"),
        (64, "must be \\(height, width\\), two whole numbers"),
        ((0, 32), "must be \\(height, width\\), two whole numbers"),
        ((32.0, 32), "must be \\(height, width\\), two whole numbers"),
    ],
)
def test_sizes_that_make_no_sense(size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_size(tiny(), size)


def test_models_and_images_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="got Conv2d, must be a detector of torchvision"):
        fixed_size(nn.Conv2d(3, 3, 3), (64, 64))
    model = fixed_size(tiny(), (64, 32))
    with pytest.raises(ValueError, match="image 1 of the batch is 32 x 64 .* must fit 64 x 32"):
        model([torch.rand(3, 64, 32), torch.rand(3, 32, 64)])


def test_a_model_of_one_size_is_left_alone() -> None:
    """As SSD: each image is resized to the same size, whatever it was."""
    model: Any = tiny()
    model.transform.fixed_size = (SIDE, SIDE)
    assert fixed_size(model, (96, 128)) is model
    assert "batch_images" not in vars(model.transform)


# ---- Repeating -----------------------------------------------------------------------------------


def test_a_run_repeats_and_the_batch_is_told_apart() -> None:
    found: list[Found] = [{}, {}]
    first, second = (digests(tiny(), pictures(), (1, 3), found=one) for one in found)
    assert first == second
    summary = summarize(found, ["a", "b"])
    assert summary is not None
    assert summary.unseeded == 2
    for side in ("stock", "patched"):
        assert [row.changed for row in summary.processes[side]] == [0, 0]
        assert [row.images for row in summary.processes[side]] == [3, 3]
    assert [row.changed for row in summary.batches["patched"]] == [0, 0]
    other: Found = {}
    digests(tiny(seed=1), pictures(), (1, 3), found=other)
    summary = summarize([found[0], other], [])
    assert summary is not None
    assert summary.unseeded is None
    assert summary.processes["patched"][0].changed == 3


def test_other_models_have_no_summary() -> None:
    found: Found = {}
    digests(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(2, 3, 8, 8), (1, 2), found=found)
    assert summarize([found, found], []) is None


def test_a_batch_that_is_no_multiple_repeats_images() -> None:
    found: Found = {}
    digests(Told(), Images(pictures(3)), (1, 2), found=found)
    assert [len(images) for images in found["stock"].values()] == [3, 3]
