"""`make gpu-sanitize`, with a script in the place of compute-sanitizer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.gpu import report, sanitize

# In its place: keeps its options, runs the program behind them, and finds what it is told to.
SANITIZER = """#!/bin/sh
echo "$@" >> {folder}/options
while [ "$1" != {python} ]; do shift; done
"$@" || exit 1
echo "========= Invalid __global__ write of size 4 bytes"
echo "========= ERROR SUMMARY: {errors} errors"
exit {status}
"""


@pytest.mark.parametrize(
    ("tool", "errors", "status"), [("initcheck", 0, "passed"), ("memcheck", 2, "failed")]
)
def test_what_compute_sanitizer_finds(tmp_path: Path, tool: str, errors: int, status: str) -> None:
    fake = tmp_path / "compute-sanitizer"
    values = {"folder": tmp_path, "python": sys.executable, "errors": errors}
    fake.write_text(SANITIZER.format(**values, status=sanitize.FOUND if errors else 0))
    fake.chmod(0o755)
    found = sanitize.examine(str(fake), tool, "emulated", 300)
    assert found["status"] == status and found["reached"] == found["total"] > 100
    options = (tmp_path / "options").read_text()
    assert f"--tool {tool}" in options and ("kns=bninv" in options) == (tool == "memcheck")
    text = report.build({"sanitize": {"tools": {tool: found}}})
    assert f"| {tool} | {status} | ERROR SUMMARY: {errors} errors |" in text
    assert ("Invalid __global__ write" in text) == bool(errors)


def test_without_compute_sanitizer_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sanitize, "find_sanitizer", lambda: None)
    assert sanitize.main([]) == 2
    assert "compute-sanitizer was not found" in capsys.readouterr().err
