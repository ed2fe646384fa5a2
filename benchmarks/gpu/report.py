"""Writes report.md from what the stages wrote. Pure: documents in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.stages import STAGES

Document = Mapping[str, Any]


def build(documents: Mapping[str, Document], images: Sequence[str] = ()) -> str:
    """The report.

    Args:
        documents: the JSON files by name; any may be missing or half done.
        images: names of PNG files beside the report.
    """
    run = documents.get("run", {})
    parts = [heading(run.get("about", {})), outcomes(run.get("stages", {}))]
    parts += [f"![{name}]({name})" for name in images]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(about: Mapping[str, Any]) -> str:
    emulated = about.get("slug") == "emulated"
    title = "bninv, kernels emulated on the host: no GPU was used" if emulated else "bninv on a GPU"
    gpu = "" if emulated else f"{about.get('gpu', 'an unknown GPU')}, "
    names = ("driver", "cuda", "cudnn", "torch", "torchvision", "timm", "python")
    software = ", ".join(f"{name} {about[name]}" for name in names if name in about)
    return f"# {title}\n\n{gpu}{software}"


def outcomes(stages: Mapping[str, Any]) -> str:
    """The first table: what passed, what failed, what was not reached."""
    rows = []
    for stage in STAGES:
        found = stages.get(stage.name, {"status": "not run"})
        status = found["status"] if found["status"] == "passed" else f"**{found['status']}**"
        why = " ".join(found.get("why", "").split())
        rows.append((stage.name, status, str(found.get("seconds", "")), why[-300:]))
    return table(("stage", "outcome", "seconds", ""), rows)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
