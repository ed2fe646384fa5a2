"""A detector's report: the table, the sentences, and the boxes on the photograph."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import pytest
import torch
from PIL import Image
from torch import Tensor

import bninv
from bninv.checking.detections import Changes, DetectionRow
from bninv.report.detections import changed, counted, worst
from tests.support.detectors import Told, pictures
from tests.support.page import Page

pytestmark = pytest.mark.usefixtures("one_thread")


def changes(result: dict[str, Tensor]) -> dict[str, Tensor]:
    """One box is lost, one is new, one moves by a bit."""
    kept = {key: value[1:] for key, value in result.items()}
    kept["boxes"][0, 0] = torch.nextafter(kept["boxes"][0, 0], torch.tensor(torch.inf))
    kept["boxes"][2] += 100
    return kept


def test_counts_in_words() -> None:
    assert counted(Changes()) == "no box changed"
    assert counted(Changes(appeared=1)) == "1 box appeared"
    assert counted(Changes(vanished=5, moved=1200)) == "5 boxes vanished, 1,200 moved"
    row = DetectionRow(8, 12, 12, 100, Changes(appeared=3, moved=40), Changes())
    assert changed(row) == "12 of 12 images: 3 boxes appeared, 40 moved"
    less = DetectionRow(3, 12, 2, 100, Changes(moved=90), Changes())
    assert worst([less, row, less]) is row


def test_the_table_and_the_verdict() -> None:
    text = " ".join(str(bninv.check(Told(changes), pictures(3), (1, 2))).split())
    assert "Detections that changed:" in text
    assert "Stock: detections changed in 3 of 3 images: 3 boxes appeared, 6 vanished" in text
    assert "Patched: detections changed in 3 of 3 images" in text
    assert "Of 12 boxes in 3 images" in text
    assert "no number" in text  # no distance to what is not there
    assert "output[i]['boxes']" in text  # no markup of rich's


def test_a_model_that_finds_nothing() -> None:
    class Blind(Told):
        def detect(self, image: Tensor) -> dict[str, Tensor]:
            return {key: value[:0] for key, value in super().detect(image).items()}

    result = bninv.check(Blind(), pictures(2), (1, 2))
    assert not result.passed
    assert "found nothing in any image" in str(result)


def test_models_without_boxes_have_no_table() -> None:
    text = str(bninv.check(torch.nn.Conv2d(3, 3, 3), torch.rand(2, 3, 8, 8), (1, 2)))
    assert "etections" not in text
    assert "Padding" not in text


def test_boxes_are_drawn_on_the_photograph() -> None:
    result = bninv.check(Told(changes), pictures(6), (1, 2), pictures=True)
    assert len(result.stock.pictures) == len(result.patched.pictures) == 4
    text = result.to_html()
    assert len(text) < 2**21
    page = Page(text)
    assert page.tags["image"] == page.tags["use"] == 8
    links = [value or "" for _, name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert len({link for link in links if link.startswith("#")}) == 8
    names = [value for tag, name, value in page.attributes if (tag, name) == ("image", "id")]
    assert sorted(f"#{name}" for name in names) == sorted(x for x in links if x.startswith("#"))
    # Each figure reads as XML by itself, and its picture as a picture.
    figures = [svg for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if "<image" in svg]
    assert len(figures) == 8
    for svg in figures:
        root = ET.fromstring(svg)
        kinds = [(rect.get("class") or "").split()[1] for rect in root.iter("rect")]
        # Alone: one that vanishes, one that moves, one that changes place, one as before.
        assert sorted(kinds[:4]) == ["changed", "still", "vanished", "vanished"]
        assert sorted(kinds[4:]) == ["appeared", "changed", "still"]
        (image,) = root.iter("image")
        jpeg = base64.b64decode((image.get("href") or "").partition(",")[2])
        assert Image.open(io.BytesIO(jpeg)).size == (64, 64)
        titles = [title.text or "" for title in root.iter("title")]
        assert any(title.startswith("vanished: label 1, score 0.9") for title in titles)


def test_many_boxes_are_left_out_and_said_to_be() -> None:
    class Many(Told):
        def detect(self, image: Tensor) -> dict[str, Tensor]:
            found = super().detect(image)
            n = 300
            boxes = torch.arange(n * 4.0).reshape(n, 4) + found["scores"][0]
            boxes[:, 2:] = boxes[:, :2] + 3
            return {"boxes": boxes, "labels": torch.arange(n), "scores": torch.rand(n).sort()[0]}

        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            torch.manual_seed(len(images))
            return super().forward(images)

    text = bninv.check(Many(), pictures(3), (1, 2), pictures=True).to_html()
    assert "boxes are not drawn" in text
    assert text.count("<rect") < 6 * 2 * 40


def test_what_a_box_is_called_becomes_no_markup() -> None:
    result = bninv.check(
        Told(changes), pictures(2), (1, 2), pictures=True, samples=["<script>", "a&b"]
    )
    page = Page(result.to_html())
    assert not page.tags["script"]
    assert "<script>" in page.words


def test_strange_boxes_are_drawn_somewhere() -> None:
    def strange(result: dict[str, Tensor]) -> dict[str, Tensor]:
        result["boxes"][0] = torch.tensor([float("nan"), -1e30, float("inf"), 5.0])
        return result

    result = bninv.check(Told(strange), pictures(2), (1, 2), pictures=True)
    for svg in re.findall(r"<svg.*?</svg>", result.to_html(), re.DOTALL):
        for rect in ET.fromstring(svg).iter("rect"):
            assert all(abs(float(rect.get(a) or "nan")) < 1e6 for a in ("x", "y", "width"))
