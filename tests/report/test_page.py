"""The page: well-formed, self-contained, and nothing of the user's becomes markup."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.audit import Uncovered
from bninv.checking.blame import Culprit
from bninv.checking.sites import Site
from tests.support.page import Page
from tests.support.small_models import Functional, images, mixes_samples, small_cnn

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_self_contained(text: str, page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "xlink:href", "srcset")]
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert not re.search(r"https?:|url\(|@import", text)


def infects(x: Tensor) -> Tensor:
    return x + (math.nan if len(x) > 2 else 0)


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("function", [torch.relu, torch.sigmoid, mixes_samples, infects])
def test_the_page_is_whole(function: object, depth: bool) -> None:
    result = bninv.check(small_cnn(Functional(function)), images(), (1, 3), depth=depth)
    text = result.to_html()
    page = Page(text)
    assert_self_contained(text, page)
    assert text.startswith("<!DOCTYPE html>")
    assert ("Not passed" in page.words) is not result.passed
    assert page.tags["svg"] == depth
    assert page.tags["h1"] == 1
    # Tables are read out with their headers.
    assert page.tags["caption"] == page.tags["table"]
    assert all(value in ("col", "row") for _, name, value in page.attributes if name == "scope")
    for fact in (torch.__version__, bninv.__version__, "contract version 1", "threads"):
        assert fact in page.words
    if function is infects:
        assert "NaN" in page.words


def test_no_culprits_and_nothing_uncovered() -> None:
    result = bninv.check(nn.Sequential(nn.ReLU(), nn.Flatten()), images(), (1, 3), depth=True)
    assert result.culprits == [] and result.uncovered == []
    page = Page(result.to_html())
    assert "No operator of the stock model gave other bits" in page.words
    assert "None: every operator of the patched model" in page.words


def test_what_is_the_users_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&$model"

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<b>&\"'", Functional(mixes_samples))

        def forward(self, x: Tensor) -> Tensor:
            return next(self.children())(x).flatten(1)

    Odd.__name__ = "<i>Odd"
    result = bninv.check(Odd(), images(), (1, 3), name=evil, depth=True)
    sites = [Site("<u>", "<u>.py:1", "if a < b and c > d: '<script>'", 2)]
    result.stock.culprits.append(Culprit("<u>kind", 2, 3, "<u>", "<u>.py:1", "a < b", sites))
    result.patched.uncovered.append(Uncovered("<u>::op", 2, "<u>", "<u>.py:1", "a < b", sites))
    result.notes.append(evil)
    text = result.to_html()
    page = Page(text)
    assert_self_contained(text, page)
    assert not {"b", "i", "u"} & set(page.tags)
    assert evil in page.words
    assert "if a < b and c > d: '<script>'" in page.words
    assert "<b>&\"' (Functional)" in page.words
    assert "<i>Odd" in page.words


def test_every_line_is_listed_with_its_modules() -> None:
    result = bninv.check(small_cnn(), images(), (1, 2))
    sites = [Site(f"layer{i}.se", "se.py:5", "x.mean((2, 3))", 1) for i in range(3)]
    sites.append(Site("head", "head.py:9", "x.mean(1)", 2))
    result.patched.uncovered = [Uncovered("aten::mean", 5, *("layer0.se", "se.py:5", ""), sites)]
    page = Page(result.to_html())
    assert "aten::mean 5 3 x.mean((2, 3)) se.py:5 in layer0.se and 2 more" in page.words
    assert "layer1.se layer2.se" in page.words
    assert "2 x.mean(1) head.py:9 in head (2 calls)" in page.words


def test_the_plot_names_what_the_pointer_is_at() -> None:
    model = nn.Sequential(nn.ReLU(), Functional(mixes_samples), nn.Flatten())
    words = Page(bninv.check(model, images(), (1, 3), depth=True).to_html()).words
    assert "stock: 0 (ReLU): the same bits" in words
    assert re.search(r"stock: 1 \(Functional\): \d\.\de-\d\d, \d+ of 432 with other bits", words)
    assert "stock: 3 of 4 module outputs differ" in words
