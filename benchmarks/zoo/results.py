"""The results: a file for each model, so that a run can stop anywhere and a rerun shows by lines.

FOLDER/NAME.json holds `key`, what the result depends on; `machine`; and what was found, or
`failed` with the reason.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import cuda_timing, json_file
from benchmarks.common.places import RESULTS
from benchmarks.zoo.models import Entry
from bninv._version import CONTRACT_VERSION
from bninv.building.recipe import source_dir, source_key

FOLDER = RESULTS / "zoo"

Result = dict[str, Any]


def key() -> dict[str, Any]:
    """What makes a result another one: kernels, contract, the libraries."""
    names = ("torch", "timm", "torchvision")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"contract": CONTRACT_VERSION, "sources": source_key(source_dir()), **found}


def folder(device: str) -> Path:
    """Where results of a device are: those of a GPU in its own folder."""
    return RESULTS / cuda_timing.slug() / "zoo" if device.startswith("cuda") else FOLDER


def read(folder: Path, entry: Entry) -> Result:
    """The result, or an empty one."""
    return json_file.read(folder / entry.file)


def read_all(folder: Path, entries: Iterable[Entry]) -> dict[Entry, Result]:
    """Those that are there, in the order of `entries`."""
    return {entry: found for entry in entries if (found := read(folder, entry))}


def write(folder: Path, entry: Entry, result: Result) -> None:
    json_file.write(folder / entry.file, result)


def uncovered(result: Result) -> list[str]:
    """The names of operators and calls that are not covered, each once."""
    operators = [call["operator"].rpartition("::")[2] for call in result.get("uncovered", [])]
    # Those that run unseen, such as TorchScript's, are known by the table alone.
    calls = [call["operator"] for call in result.get("calls", []) if not operators]
    return list(dict.fromkeys((*operators, *calls)))


def is_good(result: Result) -> bool:
    """Whether the patched model ran, and no bit of it moved."""
    if not result or "failed" in result:
        return False
    halves = any(half["moved"] for half in result["half"].values())
    moved = result["patched_moved"] or result["inference_mode_moved"] or halves
    return bool(not moved and result.get("equals_cpu", True))


def is_clean(result: Result) -> bool:
    """Good, with nothing uncovered, and sound outputs."""
    return is_good(result) and not uncovered(result) and result["finite"] and result["distinct"]
