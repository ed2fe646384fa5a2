"""A detector's boxes: every kind of change is counted as what it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.detections import Changes, compare, detections
from bninv.checking.runner import CheckError
from bninv.detection import Images
from tests.support.detectors import Told, pictures

pytestmark = pytest.mark.usefixtures("one_thread")

Result = dict[str, Tensor]


def without(result: Result, index: int) -> Result:
    keep = [i for i in range(len(result["boxes"])) if i != index]
    return {key: value[keep] for key, value in result.items()}


def appended(result: Result) -> Result:
    more = {key: torch.cat([value, value[-1:]]) for key, value in result.items()}
    more["boxes"][-1] = torch.tensor([50.0, 50, 55, 55])
    return more


def at_2(result: Result, key: str, change: Callable[[Tensor], Tensor]) -> Result:
    result[key][2] = change(result[key][2])
    return result


def next_up(values: Tensor) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, torch.inf))


CHANGES: dict[str, tuple[Callable[[Result], Result], Changes]] = {
    "appeared": (appended, Changes(appeared=1)),
    "vanished": (lambda r: without(r, 1), Changes(vanished=1)),
    "relabelled": (lambda r: at_2(r, "labels", lambda label: label + 5), Changes(relabelled=1)),
    "moved by a bit": (lambda r: at_2(r, "boxes", next_up), Changes(moved=1)),
    "another place": (
        lambda r: at_2(r, "boxes", lambda box: box + 500.0),
        Changes(appeared=1, vanished=1),
    ),
    "rescored": (lambda r: at_2(r, "scores", next_up), Changes(rescored=1)),
    "masks": (lambda r: at_2(r, "masks", next_up), Changes(masks=1)),
    "keypoints": (lambda r: at_2(r, "keypoints", next_up), Changes(keypoints=1)),
    "reordered": (lambda r: {k: v[[0, 2, 1, 3]] for k, v in r.items()}, Changes(reordered=1)),
    "all of a box": (
        lambda r: at_2(at_2(r, "boxes", next_up), "scores", next_up),
        Changes(moved=1, rescored=1),
    ),
    "turned round and moved": (
        lambda r: {k: v.flip(0) for k, v in at_2(r, "boxes", next_up).items()},
        Changes(moved=1, reordered=3),
    ),
    "nothing left": (lambda r: {k: v[:0] for k, v in r.items()}, Changes(vanished=4)),
    "label of nobody's": (
        lambda r: {**r, "scores": r["scores"], "labels": r["labels"].flip(0)},
        Changes(relabelled=4),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_change_is_counted(name: str) -> None:
    """Of every image, once, whatever the number of arrangements; and it fails the check."""
    change, expected = CHANGES[name]
    result = bninv.check(Told(change), pictures(3), (1, 2))
    alone, batch = result.stock.detections or []
    assert (alone.changed, alone.counts) == (0, Changes())
    assert (batch.batch_size, batch.images, batch.changed, batch.detections) == (2, 3, 3, 12)
    assert batch.counts == Changes(*(3 * count for count in vars(expected).values()))
    assert batch.images_with == Changes(*(3 * min(1, n) for n in vars(expected).values()))
    assert not result.stock.invariant
    assert not result.patched.invariant  # it is the model's own code
    assert not result.passed


def test_a_detector_that_does_not_change() -> None:
    result = bninv.check(Told(), pictures(3), (1, 2, 3))
    for side in (result.stock, result.patched):
        assert side.invariant
        assert [row.changed for row in side.detections or []] == [0, 0, 0]
    assert result.passed
    assert result.patched.against_stock == Changes()
    assert result.patched.distinct
    assert all(row.top1_changed is None for row in result.rows)


def test_boxes_that_appear_where_there_were_none_are_differing_elements() -> None:
    def nothing_alone(result: Result) -> Result:
        return result

    class Shy(Told):
        def forward(self, images: list[Tensor]) -> list[Result]:
            results = super().forward(images)
            if len(images) > 1:
                return results
            return [{k: v[:0] for k, v in results[0].items()}]

    result = bninv.check(Shy(nothing_alone), pictures(2), (1, 2))
    assert not result.invariant
    row = (result.patched.detections or [])[1]
    assert (row.detections, row.counts) == (0, Changes(appeared=8))
    assert result.rows[1].differing == result.rows[1].elements > 0
    # Images alone in which nothing was found cannot be told apart.
    assert not result.patched.distinct


def test_images_without_boxes_are_not_asked_to_differ() -> None:
    class Sometimes(Told):
        def detect(self, image: Tensor) -> Result:
            found = super().detect(image)
            return found if image[0, 0, 0] > 0 else {k: v[:0] for k, v in found.items()}

    images = pictures(5)
    for image in images[:3]:
        image[0, 0, 0] = -1.0
    assert bninv.check(Sometimes(), images, (1, 2)).passed
    for image in images:
        image[0, 0, 0] = -1.0
    assert not bninv.check(Sometimes(), images, (1, 2)).patched.distinct


def test_json_has_the_counts_and_others_have_none() -> None:
    change, _ = CHANGES["vanished"]
    result = bninv.check(Told(change), pictures(2), (1, 2), pictures=True)
    body = json.loads(result.to_json())
    row = body["stock"]["detections"][1]
    assert row["counts"]["vanished"] == 2
    assert row["images_with"]["vanished"] == 2
    assert body["stock"]["rows"][1]["max_abs"] is None  # no distance to a box that is not there
    assert "pictures" not in body["stock"]
    other = bninv.check(nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8), (1, 2)).to_dict()
    for side in (other["stock"], other["patched"]):
        assert not {"detections", "pictures", "against_stock"} & set(side)
    assert "padding" not in other


def test_other_outputs_that_change_their_shape_still_end_the_check() -> None:
    class Grows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_zeros(len(x), len(x))

    with pytest.raises(CheckError, match="changes the shape of an output"):
        bninv.check(Grows(), torch.rand(3, 3), (1, 2))


def test_images_are_validated() -> None:
    with pytest.raises(ValueError, match="got 1 image, must be at least two images"):
        bninv.check(Told(), pictures(1))
    with pytest.raises(ValueError, match=r"inputs\[1\]: got \(3, 4\), must be"):
        bninv.check(Told(), Images([torch.rand(3, 4, 4), torch.rand(3, 4)]))
    with pytest.raises(ValueError, match="mixed: images of several sizes are for detectors"):
        bninv.check(nn.Flatten(), torch.rand(2, 3, 4, 4), mixed=pictures(2))


# ---- Comparing two results -----------------------------------------------------------------------


def found(boxes: list[list[float]], labels: list[int], scores: list[float]):
    tensors = [torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels), torch.tensor(scores)]
    return detections(tensors, {"boxes": 0, "labels": 1, "scores": 2})


A, B = [0.0, 0, 10, 10], [0.0, 0, 10, 9]


def test_the_same_label_comes_before_the_larger_overlap() -> None:
    """A detector gives one object's box once for each class that it may be."""
    before = found([A, A], [1, 2], [0.5, 0.4])
    after = found([A, B], [2, 1], [0.4, 0.5])
    assert compare(before, after).changes == Changes(moved=1, reordered=1)


@pytest.mark.parametrize("box", [[3.0, 3, 3, 9], [5.0, 5, 2, 2], [4.0, 4, 4, 4]])
def test_boxes_without_an_area_move_as_others_do(box: list[float]) -> None:
    after = [box[0] + 1e-5, *box[1:]]
    assert compare(found([box], [1], [0.5]), found([after], [1], [0.5])).changes == Changes(moved=1)


def test_nan_is_equal_to_nan_and_near_to_nothing() -> None:
    nan = [float("nan"), 0.0, 1, 1]
    assert not compare(found([nan], [1], [0.5]), found([nan], [1], [0.5])).changes
    changes = compare(found([nan], [1], [0.5]), found([nan], [1], [0.6])).changes
    assert changes == Changes(appeared=1, vanished=1)


def test_equal_boxes_are_counted_as_often_as_they_are_there() -> None:
    three, two = found([A] * 3, [1] * 3, [0.5] * 3), found([A] * 2, [1] * 2, [0.5] * 2)
    assert compare(three, two).changes == Changes(vanished=1)
    assert compare(two, three).changes == Changes(appeared=1)


def test_boxes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"boxes: got shape \(2, 5\), must be \(n, 4\)"):
        detections([torch.rand(2, 5), torch.rand(2)], {"boxes": 0, "scores": 1})
