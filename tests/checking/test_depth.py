"""The difference over depth: a row for every call of a module, and the plot of them."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.checking.arrangements import build_batch
from bninv.checking.depth import DepthRow, measure_depth
from bninv.report.depth_axes import depth_axes
from bninv.report.plot import PlotError, file_format, save_plot
from tests.support.small_models import (
    Functional,
    images,
    lets_nan_through,
    mixes_samples,
    small_cnn,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_difference_starts_where_it_was_planted() -> None:
    model = nn.Sequential(nn.ReLU(), Functional(mixes_samples), nn.Flatten()).eval()
    rows = measure_depth(model, images(), 4)
    assert [(row.index, row.module, row.kind, row.leaf) for row in rows] == [
        (0, "0", "ReLU", True),
        (1, "1", "Functional", True),
        (2, "2", "Flatten", True),
        (3, "", "Sequential", False),
    ]
    assert (rows[0].differing, rows[0].max_rel) == (0, 0.0)
    assert all(row.differing > 0 for row in rows[1:])
    assert all(row.elements == 3 * 12 * 12 for row in rows)


@pytest.mark.parametrize("batch_size", [2, 3, 4, 5, 6, 17])
def test_the_sample_has_neighbours(batch_size: int) -> None:
    """And stands last, where vectors and tiles are cut."""
    seen: list[list[float]] = []
    model = Functional(lambda x: seen.append(x[:, 0].tolist()) or x)  # type: ignore[func-returns-value]
    measure_depth(model, torch.arange(20.0)[:, None], batch_size)
    alone, batch = seen
    assert alone == [0.0]
    assert len(batch) == batch_size
    assert batch[-1] == 0.0
    assert 1 <= batch.count(0.0) <= min(3, batch_size // 2)


def test_the_size_of_the_difference() -> None:
    class Marks(nn.Module):
        """What stands in the middle of a batch is larger by a quarter of the largest output."""

        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            if len(x) > 1:
                x[len(x) // 2, 0] += x[len(x) // 2].abs().max() / 4
            return x

    (row,) = measure_depth(Marks(), torch.tensor([[4.0, -8.0, 1.0], [1.0, 2.0, 3.0]]), 5)
    assert (row.differing, row.elements, row.max_rel) == (1, 3, 0.25)


def test_nothing_in_place_is_mistaken() -> None:
    """ReLU works on BatchNorm's own output: what BatchNorm gave has to be kept as it was."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(inplace=True)).eval()
    assert [row.differing for row in measure_depth(model, images(), 8)] == [0, 0, 0]


def test_a_module_called_twice_has_two_rows() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halved = Functional(lambda x: x / 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.halved(self.halved(x)) + x.mean(0)

    rows = measure_depth(Shared(), images(), 3)
    assert [row.module for row in rows] == ["halved", "halved", ""]
    assert [row.differing > 0 for row in rows] == [False, False, True]


def test_outputs_of_every_form() -> None:
    """Tuples, windows merged into the batch, sequence first, no batch at all, and no tensors."""
    forms = nn.ModuleDict(
        {
            "pair": Functional(lambda x: (x, {"twice": 2 * x})),
            "windows": Functional(lambda x: x.reshape(4 * len(x), 3, 36)),
            "sequence": Functional(lambda x: x.flatten(2).permute(2, 0, 1)),
            "constant": Functional(lambda x: torch.ones(5)),
            "shape": Functional(lambda x: x.shape),
            "odd": Functional(lambda x: torch.ones(len(x) + 1)),
        }
    )

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forms = forms

        def forward(self, x: Tensor) -> Tensor:
            for form in self.forms.values():
                form(x)
            return x

    rows = {row.module: row for row in measure_depth(Model(), images(), 3)}
    size = 3 * 12 * 12
    elements = {name: row.elements for name, row in rows.items()}
    assert elements == {
        "forms.pair": 2 * size,
        "forms.windows": size,
        "forms.sequence": size,
        "forms.constant": 5,
        "": size,
    }
    assert not any(row.differing for row in rows.values())


def test_other_calls_at_another_batch_size_are_left_out() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.few, self.many = nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.many(x) if len(x) > 1 else self.few(x)

    assert [row.module for row in measure_depth(Branches(), images(), 3)] == [""]


def test_not_a_number_has_no_distance() -> None:
    def infects(x: Tensor) -> Tensor:
        return x + (math.nan if len(x) > 1 else 0)

    result = bninv.check(small_cnn(Functional(infects)), images(), (1, 3), depth=True)
    assert math.inf in [row.max_rel for row in result.patched.depth or []]
    body = json.loads(result.to_json())
    assert None in [row["max_rel"] for row in body["patched"]["depth"]]


def test_check_records_depth_of_both_sides() -> None:
    result = bninv.check(small_cnn(Functional(mixes_samples)), images(), (1, 3), depth=True)
    assert result.depth_batch_size == 3
    assert bninv.check(small_cnn(), images(), (1,), depth=True).depth_batch_size == 2
    body = json.loads(result.to_json())
    for side in ("stock", "patched"):
        rows = body[side]["depth"]
        assert [row["module"] for row in rows][-2:] == ["fc", ""]
        assert rows[0].keys() == DepthRow.__annotations__.keys()
        after = next(i for i, row in enumerate(rows) if row["module"] == "plant")
        assert all(row["differing"] for row in rows[after:])
    assert not any(row.differing for row in result.patched.depth[:3])


def test_progress_reaches_its_end() -> None:
    seen: list[tuple[str, int, int]] = []
    bninv.check(small_cnn(), images(), (1, 3), depth=True, progress=lambda *a: seen.append(a))
    assert seen[-1][1] == seen[-1][2]
    assert all(done <= total for _, done, total in seen)


def test_no_hooks_are_left_when_a_model_fails() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="shapes"):
        measure_depth(model, images(), 3)
    assert not any(module._forward_hooks for module in model.modules())
    assert build_batch(images(), [0]).shape[0] == 1


# ---- The plot ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def infected() -> bninv.CheckResult:
    """A model whose stock side has zeros, differences and NaN over its depth; oddly named."""
    model = small_cnn(nn.Sequential(Functional(mixes_samples), Functional(lets_nan_through)))
    result = bninv.check(model, images(), (1, 3), depth=True, name="<script>$mine")
    assert result.stock.depth is not None
    result.stock.depth[-1].max_rel = math.inf
    return result


def test_the_axes_hold_every_row(infected: bninv.CheckResult) -> None:
    axes = depth_axes(infected)
    assert axes is not None
    assert axes.has_infinite
    for series in axes.series:
        assert series.places == list(range(len(axes.names)))
        heights = [axes.height(row.max_rel) for row in series.rows]
        assert axes.bottom < min(heights) and max(heights) < axes.top
    assert axes.height(0) < axes.low - 0.5 < axes.height(10.0**axes.low)
    assert axes.height(math.inf) > axes.high


def test_named_modules_keep_a_distance() -> None:
    model = nn.ModuleDict(
        {name: nn.Sequential(*(nn.ReLU() for _ in range(30))) for name in ("stem", "body", "tail")}
    )

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts.values():
                x = part(x)
            return x.flatten(1)

    axes = depth_axes(bninv.check(Deep(), images(), (1, 2), depth=True))
    assert axes is not None
    ticks = axes.ticks(10)
    places = [place for place, _ in ticks]
    assert all(b - a >= len(axes.names) / 10 for a, b in itertools.pairwise(places))
    assert {"parts.stem", "parts.body", "parts.tail"} <= {name for _, name in ticks}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ""])
def test_the_plot_is_drawn(infected: bninv.CheckResult, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"depth{suffix}"
    save_plot(infected, path)
    assert path.read_bytes().startswith({".svg": b"<?xml", ".pdf": b"%PDF"}.get(suffix, b"\x89PNG"))


def test_a_plot_without_differences_or_without_depth(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    still = nn.Sequential(nn.ReLU(), nn.Flatten())
    save_plot(bninv.check(still, images(), (1, 2), depth=True), tmp_path / "still.png")
    assert (tmp_path / "still.png").stat().st_size > 5000
    with pytest.raises(PlotError, match="depth=True"):
        save_plot(bninv.check(still, images(), (1, 2)), tmp_path / "none.png")
    with pytest.raises(PlotError, match=r"unknown suffix \.docx; it may be .*\.png"):
        file_format(Path("a.docx"))


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    with pytest.raises(PlotError, match=r"pip install 'bninv\[plot\]'"):
        file_format(Path("a.png"))
