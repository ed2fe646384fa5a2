"""JSON files of results: whole at any time, and with a line for each row, so diffs are short."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def read(path: Path) -> Document:
    """The document, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Written aside and renamed: a reader, or a next run, never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    parts = (f"{json.dumps(key)}: {_text(value)}" for key, value in document.items())
    aside.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    aside.replace(path)


def _text(value: Any) -> str:
    """Rows, in a list or by their names, a line each."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return "[\n" + ",\n".join(f" {json.dumps(row)}" for row in value) + "\n]"
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        rows = (f" {json.dumps(name)}: {json.dumps(row)}" for name, row in value.items())
        return "{\n" + ",\n".join(rows) + "\n}"
    return json.dumps(value, indent=1)
