"""bninv.check: which operators of the stock model are blamed, and where they were called."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv.checking.batch_dim import BatchTracker, Place, take
from bninv.checking.blame import _Tally, find_culprits
from bninv.checking.sites import _from_package
from tests.support.small_models import (
    Functional,
    images,
    looks_at_the_batch_size,
    mixes_samples,
    small_cnn,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_operator_that_mixes_samples_is_blamed() -> None:
    culprits = {
        c.kind: c for c in bninv.check(small_cnn(Functional(mixes_samples)), images()).culprits
    }
    assert (culprits["mean"].moved, culprits["mean"].first) == (1, "plant")
    # What only hands on what it got is not to blame.
    assert not {"add", "mul", "relu_", "native_batch_norm"} & set(culprits)


def test_python_code_that_looks_at_the_batch_is_blamed_by_its_module() -> None:
    # Linear layers and convolutions may move by themselves; here there are none.
    model = nn.Sequential(nn.ReLU(), Functional(looks_at_the_batch_size), nn.Flatten())
    (culprit,) = bninv.check(model, images()).culprits
    assert (culprit.kind, culprit.moved, culprit.total) == ("Functional", 1, 1)
    assert culprit.first == "1"
    # The line is that of its forward: what it calls are exact operators.
    assert culprit.line.startswith("tests/support/small_models.py:")
    assert culprit.code == "def forward(self, x: Tensor) -> Tensor:"


def test_in_place_operators_are_compared_on_their_inputs() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            return x.mul_(3).add_(1).sub_(x.mean(0, keepdim=True))

    culprits = find_culprits(InPlace(), [images(3)])
    assert [(c.kind, c.moved, c.total) for c in culprits] == [("mean", 1, 1)]


def test_attention_is_followed_through_its_views() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            qkv = tokens.repeat(1, 1, 4).reshape(len(x), -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
            return out.transpose(1, 2).reshape(len(x), -1)

    seen: list[str] = []
    original = BatchTracker.follow

    def spy(self: BatchTracker, results: object, inputs: object, is_view: bool) -> None:
        results = list(results)
        original(self, results, inputs, is_view)
        seen.append("lost" if any(self.place(t) is None for t in results) else "kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchTracker, "follow", spy)
        find_culprits(Attention(), [images(5)])
    assert seen
    assert "lost" not in seen


def test_batch_tracker_goes_by_memory() -> None:
    batch = torch.arange(5 * 2 * 3 * 4.0).reshape(5, 2, 3, 4)
    tracker = BatchTracker(batch)
    assert tracker.place(batch) == Place(0, 1)
    assert tracker.place(batch.permute(2, 3, 0, 1)) == Place(2, 1)
    assert tracker.place(batch.view(10, 3, 4)) == Place(0, 2)
    assert tracker.place(torch.zeros(5, 2)) is None
    assert tracker.place(batch[2]) is None
    sequence_first = batch.permute(1, 0, 2, 3).contiguous()
    tracker.follow([sequence_first], {0: Place(1, 1)}, False)
    rows = sequence_first.view(10, 12)
    place = tracker.place(rows)
    assert place == Place(0, 2, interleaved=True)
    assert torch.equal(take(rows, place, 3, 1), batch[3].reshape(2, 12))


# ---- Functional calls, by the line of the model's code -------------------------------------------


class Calls(nn.Module):
    """Functional calls that mix samples, each on a line of its own, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))  # line: kept
        y = x - x.mean(0)  # line: mean
        y = y + F.softmax(x, 0)  # line: softmax
        y = y + torch.matmul(x.T, x)[0]  # line: matmul
        y = y + torch.einsum("nc,nd->cd", x, x)[0]  # line: einsum
        y = y + x.sum(0)  # line: sum
        for _ in range(2):
            y = y + x.prod(0, keepdim=True)  # line: prod
        return self.head(y)  # line: head


FORWARD, FIRST_LINE = inspect.getsourcelines(Calls.forward)


def line_of(mark: str) -> tuple[str, str]:
    """Where in this file the line marked so is, and what it says."""
    (number,) = (i for i, line in enumerate(FORWARD) if line.rstrip().endswith(f"# line: {mark}"))
    return f"tests/checking/test_blame.py:{FIRST_LINE + number}", FORWARD[number].strip()


@pytest.mark.parametrize("batch_size", [3, 6])  # 6 is twice the channels: no second batch
def test_functional_calls_are_blamed_by_their_line(batch_size: int) -> None:
    found = {c.kind: c for c in find_culprits(Calls().eval(), [images(batch_size)])}
    for kind, mark in (("mean", "mean"), ("_softmax", "softmax"), ("sum", "sum"), ("prod", "prod")):
        assert (found[kind].line, found[kind].code) == line_of(mark)
        assert found[kind].first == ""
    products = [site for kind in ("mm", "bmm") if kind in found for site in found[kind].sites]
    assert {(site.line, site.code) for site in products} == {line_of("matmul"), line_of("einsum")}
    assert (found["mean"].moved, found["mean"].total) == (1, 2)
    (site,) = found["prod"].sites
    assert (site.line, site.calls) == (line_of("prod")[0], 2)


def test_every_line_of_an_operator_is_counted() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Functional(mixes_samples), Functional(mixes_samples)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.one(self.one(x)))

    (culprit,) = (c for c in find_culprits(Twice(), [images(3)]) if c.kind == "mean")
    assert [(site.module, site.calls) for site in culprit.sites] == [("one", 2), ("other", 1)]
    # The innermost line is that of the function, wherever the module was called.
    assert {site.line.partition(":")[0] for site in culprit.sites} == {
        "tests/support/small_models.py"
    }
    assert culprit.code == "return x + 1e-3 * x.mean(0, keepdim=True)"


def test_a_module_of_pytorch_is_named_by_the_line_that_called_it() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3, track_running_stats=False)  # by the batch's statistics

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + 1

    (culprit,) = find_culprits(Model().eval(), [images(3)])
    assert (culprit.kind, culprit.first) == ("native_batch_norm", "norm")
    assert culprit.code == "return self.norm(x) + 1"


def test_whoever_called_check_is_no_part_of_the_model() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval()
    (culprit,) = find_culprits(model, [images(3)])
    assert (culprit.first, culprit.line, culprit.code) == ("0", "", "")


def test_group_normalization_is_repeated_too() -> None:
    """It is handed the batch size as a number, which has to be that of the part."""
    model, counted = nn.GroupNorm(3, 3), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Tally, "add", lambda tally, kind, ordinal, moved_at: counted.append(kind))
        find_culprits(model, [images(3)])
    assert "native_group_norm" in counted


@pytest.mark.parametrize(
    ("file", "module", "expected"),
    [
        ("/a/site-packages/timm/layers/se.py", "timm.layers.se", "timm/layers/se.py"),
        ("/a/site-packages/timm/__init__.py", "timm", "timm/__init__.py"),
        ("/home/me/run.py", "__main__", "run.py"),
        ("/home/me/run.py", "", "run.py"),
        ("<eval_with_key>.0", "torch.fx.graph", "<eval_with_key>.0"),
    ],
)
def test_files_are_named_from_their_package_on(file: str, module: str, expected: str) -> None:
    assert _from_package(file, module) == expected
