"""The zoo: its list is complete, its page is what the results give, and it survives its models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torchvision
import typer

from benchmarks.zoo import __main__ as zoo
from benchmarks.zoo import page, results
from benchmarks.zoo.models import FAMILIES, IN_HALF, MEANING, TORCHVISION, USUAL, ZOO

TINY = "test_convnext"


def run(folder: Path, **options: Any) -> int:
    """The exit status."""
    arguments: dict[str, Any] = {
        "only": TINY,
        "limit_parameters": 0.0,
        "again": False,
        "uncovered": False,
        "device": "cpu",
        "threads": 1,
        "memory": 16.0,
        "timeout": 600.0,
        "seconds": 0.0,
        "folder": folder,
        "write": False,
    }
    with pytest.raises(typer.Exit) as exited:
        zoo.main(**(arguments | options))
    return exited.value.exit_code


def test_every_family_is_in() -> None:
    assert sorted(entry.family for entry in FAMILIES) == timm.list_modules()
    for entry in (*FAMILIES, *USUAL):
        assert entry.name in timm.list_models(module=entry.family), entry.name
    names = [entry.name for entry in ZOO]
    assert len(set(names)) == len(names) and set(IN_HALF) <= set(names)
    known = torchvision.models.list_models(module=torchvision.models)
    assert {entry.name.removeprefix("torchvision:") for entry in TORCHVISION} <= set(known)


def test_the_page_is_what_the_results_give() -> None:
    found = results.read_all(results.FOLDER, ZOO)
    assert page.PAGE.read_text() == page.page(found), "run `python -m benchmarks.zoo --write`"
    for entry, result in found.items():
        if "failed" not in result:
            assert result["parameters"] / 1e6 == pytest.approx(entry.millions, abs=0.051)
    files = {path.name for path in results.FOLDER.iterdir()}
    assert files == {entry.file for entry in ZOO}, "a result of no model, or a model without one"
    unclean = {entry.name for entry, result in found.items() if not results.is_clean(result)}
    assert unclean == set(MEANING)


def test_a_model_is_measured_and_not_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path) == 0
    assert f"{TINY} " in capsys.readouterr().out
    (entry,) = (entry for entry in ZOO if entry.name == TINY)
    found = results.read(tmp_path, entry)
    assert results.is_clean(found) and found["elements"] == 5000 and found["chains"] > 0
    assert 0 < found["errors"]["patched"]["rms"] < 1e-5
    assert all(0 < t["ratio"] < 100 for t in found["milliseconds"])
    text = page.page({entry: found})
    assert f"| {TINY} | convnext | 0.3 | 160 |" in text
    # A second run has nothing to do; one with other kernels has.
    monkeypatch.setattr(zoo.subprocess, "Popen", refuse)
    assert run(tmp_path) == 0
    assert "1 models, 1 have a result" in capsys.readouterr().out
    monkeypatch.setattr(results, "key", lambda: {"sources": "others"})
    with pytest.raises(NotImplementedError):
        zoo.Run(tmp_path, [], 1.0).all([entry], again=False)


def refuse(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "said"),
    [({"timeout": 0.01}, "not finished after 0.01 seconds"), ({"memory": 0.001}, "ended with")],
    ids=["too slow", "out of memory"],
)
def test_what_ends_a_model_does_not_end_the_run(
    tmp_path: Path, options: dict[str, float], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, **options) == 1
    (entry,) = (entry for entry in ZOO if entry.name == TINY)
    found = results.read(tmp_path, entry)
    assert said in found["failed"] and not results.is_good(found)
    assert f"1 of 1 failed or moved: {TINY}" in " ".join(capsys.readouterr().out.split())
    assert f"| {TINY} | convnext | 0.3 |" in page.page({entry: found})
    assert "1 could not be run" in page.page({entry: found})


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    stops_at = 2

    def one(self: Any, entry: Any) -> dict[str, Any]:
        if len(measured) == stops_at:
            raise KeyboardInterrupt
        measured.append(entry.name)
        found = {"model": entry.name, "key": results.key(), "failed": "by the test"}
        results.write(tmp_path, entry, found)
        return found

    monkeypatch.setattr(zoo.Run, "one", one)
    assert run(tmp_path, only="test_*") == 130
    assert "the same command goes on" in capsys.readouterr().out
    stops_at = 1000
    assert run(tmp_path, only="test_*") == 1  # they have failed
    assert "2 have a result" in capsys.readouterr().out
    assert measured == [entry.name for entry in ZOO if entry.name.startswith("test_")]


def test_a_wrong_pattern_is_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="'resnet5' is no model"):
        zoo.choose(tmp_path, "test_vit,resnet5", 0.0, uncovered=False)


def test_what_is_not_clean_is_chosen(tmp_path: Path) -> None:
    chosen = zoo.choose(tmp_path, "*", 0.5, uncovered=True)
    assert chosen and all(entry.millions <= 0.5 for entry in chosen)
