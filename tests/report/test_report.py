"""What bninv.check tells people (a table) and machines (JSON)."""

from __future__ import annotations

import io
import json
import math

import pytest
import torch
from rich.console import Console

import bninv
from tests.support.small_models import Functional, images, small_cnn

pytestmark = pytest.mark.usefixtures("one_thread")


def sine_of_all(x: torch.Tensor) -> torch.Tensor:
    return x.sinc() + 0 * x.sum()


def test_json_has_the_promised_keys() -> None:
    result = bninv.check(small_cnn(Functional(sine_of_all)), images(), name="mine")
    body = json.loads(result.to_json())
    assert body["model"] == "mine"
    assert (body["device"], body["dtype"], body["contract_version"]) == ("cpu", "float32", 1)
    assert {"invariant", "rows", "culprits"} <= set(body["stock"])
    assert {"invariant", "rows", "uncovered"} <= set(body["patched"])
    for side in ("stock", "patched"):
        for row in body[side]["rows"]:
            keys = {"batch_size", "differing", "elements", "max_abs", "max_ulp", "top1_changed"}
            assert set(row) == keys
    assert body["patched"]["rows"][-1]["max_abs"] is None  # a NaN has no distance
    for culprit in body["stock"]["culprits"]:
        assert set(culprit) == {"kind", "moved", "total", "first", "line", "code", "sites"}
    assert body["stock"]["culprits"][-1]["sites"][0].keys() == {"module", "line", "code", "calls"}
    entry, mixed = body["patched"]["uncovered"]
    assert mixed["operator"] == "bninv::sum over the batch's dimension"
    assert (entry["first"], entry["code"]) == ("plant", "return x.sinc() + 0 * x.sum()")
    # Only where it was asked for.
    assert "depth_batch_size" not in body
    assert "depth" not in body["stock"] and "depth" not in body["patched"]
    assert entry["operator"] == "aten::sinc"


def test_the_table_names_what_it_found() -> None:
    text = str(bninv.check(small_cnn(Functional(torch.sinc)), images()))
    assert "aten::sinc" in text
    assert "plant" in text
    assert "0 of 40" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [78, 96])
def test_the_table_shows_the_line_of_the_call(width: int) -> None:
    result = bninv.check(small_cnn(Functional(lambda x: x.sinc() + x.mean(0))), images())
    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True).print(result)
    lines = buffer.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(buffer.getvalue().split())
    assert "aten::sinc 1 plant tests/report/test_report.py:" in words
    assert "Functional(lambda x: x.sinc() + x.mean(0))" in words


@pytest.mark.parametrize(
    ("dtype", "quiet", "remarked"),
    [
        ("float32", 1e-4, 2e-3),
        ("float64", 2e-13, 1e-3),
        ("float16", 6.5e-2, 0.5),
        ("bfloat16", 0.17, 0.9),
    ],
)
def test_rounding_is_judged_by_the_dtype(dtype: str, quiet: float, remarked: float) -> None:
    """What resnet101 comes to is rounding; what another model gives is not."""
    result = bninv.check(small_cnn(), images(), (1, 2))
    result.dtype = dtype
    for deviation, expected in ((quiet, False), (remarked, True), (math.inf, True)):
        result.patched.deviation = deviation
        assert ("more than rounding explains" in " ".join(str(result).split())) is expected
