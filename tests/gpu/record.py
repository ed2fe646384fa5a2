"""What a stage has found so far: rows by name, of these very sources, which a stop leaves whole.

A benchmark's rows: benchmarks/common/result_file.py.
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import json_file
from benchmarks.common.json_file import Document
from tests.support.places import ROOT

Row = dict[str, Any]


def fill(
    path: Path,
    digest: str,
    work: Mapping[str, Callable[[], Row]],
    deadline: float,
    alive: Callable[[], None] = lambda: None,
) -> Document:
    """Do what the file has no row of yet, one row after the other, until `deadline`.

    A row that raises says so in its `error`, one that could not be done here says why in its
    `left_out`; both are done again by the next run.

    Args:
        digest: of all that the rows depend on. Rows made from something else are dropped.
        work: the whole of it by name, in its order.
        deadline: in time.monotonic's seconds; no row is begun after it.
        alive: called after a row that raised; raises where no further row can succeed.
    """
    found = json_file.read(path)
    rows = found.get("rows", {}) if found.get("digest") == digest else {}
    rows = {
        name: rows[name]
        for name in work
        if name in rows and not {"error", "left_out"} & rows[name].keys()
    }
    document: Document = {"digest": digest, "total": len(work), "rows": rows}
    json_file.write(path, document)
    for name, run in work.items():
        if name in rows:
            continue
        if time.monotonic() > deadline:
            break
        start = time.monotonic()
        try:
            row, failed = run(), False
        except Exception:  # recorded, and the next row is tried
            text = without_paths(traceback.format_exc(limit=-6))
            row, failed = {"error": text[-2000:]}, True
        rows[name] = {**row, "seconds": round(time.monotonic() - start, 2)}
        json_file.write(path, document)
        if failed:
            print(f"{name}: {rows[name]['error']}", flush=True)
            alive()
    return document


def without_paths(text: str) -> str:
    """Results may be published: where this machine keeps its files is nobody's business."""
    text = text.replace(f"{ROOT}/", "").replace(f"{Path.home()}/", "~/")
    return re.sub(r"[^\s\"']*/(?:site|dist)-packages/", "", text)


def is_complete(document: Mapping[str, Any]) -> bool:
    rows = document.get("rows", {})
    return len(rows) == document.get("total") and not any("error" in r for r in rows.values())


def failures(document: Mapping[str, Any]) -> dict[str, Row]:
    """The rows that raised, or that say of themselves that they are not right."""
    rows: dict[str, Row] = document.get("rows", {})
    return {k: row for k, row in rows.items() if "error" in row or row.get("ok") is False}
