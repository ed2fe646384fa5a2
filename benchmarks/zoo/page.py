"""docs/zoo.md, from the results alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.places import ROOT
from benchmarks.common.tables import markdown
from benchmarks.zoo import results
from benchmarks.zoo.models import FAMILIES, IN_HALF, MEANING, TORCHVISION, USUAL, ZOO, Entry
from benchmarks.zoo.results import Result

PAGE = ROOT / "docs" / "zoo.md"

Results = Mapping[Entry, Result]

HEAD = """# The zoo: which models bninv covers

Written by `make zoo` from [its results](../benchmarks/results/zoo), a file a model. Any row again:
`python -m benchmarks.zoo --only NAME --again`.
"""

COLUMNS = """
- **px**: an image's side. Five photographs; weights random (seed 0), what is constant in a fresh
  model drawn anew, BatchNorm calibrated.
- **stock moved**: output elements whose bits in a batch of 2, 3 or 5 are not those alone, at any of
  several positions and beside any of several neighbours: photographs, copies, NaN and Inf.
- **patched moved**: the same of the patched model; samples that moved under `inference_mode`
  count as well.
- **not covered**: operators that run and are neither bninv's nor known to be exact. The patched
  model warns of them.
- **error**: the root mean square of the difference to stock in float64, the patched model's as a
  multiple of stock's; in brackets that of the greatest difference. Below 1 patched is nearer.
- **speed**: stock's time, in its better memory format, to the patched model's, at batch 1 and 4:
  interleaved calls of one process, medians of the time that its thread worked. Above 1 patched is
  faster. Others used the machine: single rows are coarse. README has careful figures of a few.
"""


def write(folder: Path = results.FOLDER, path: Path = PAGE) -> None:
    path.write_text(page(results.read_all(folder, ZOO)))


def page(found: Results) -> str:
    """The page; models without a result are missing from it."""
    parts = [HEAD, *machines(found), "", *summary(found), COLUMNS]
    sections = (
        ("The smallest of each family of timm", FAMILIES, row_of_family),
        ("At their usual size", USUAL, row_of_family),
        ("torchvision's", TORCHVISION, row),
    )
    for title, entries, rows in sections:
        chosen = {entry: found[entry] for entry in entries if entry in found}
        parts += [f"## {title}", "", table(chosen, rows), ""]
    return "\n".join(parts + half(found) + notes(found))


def machines(found: Results) -> list[str]:
    """What the figures were measured with: a line for each kind of machine and set of versions."""
    dates: dict[str, list[str]] = {}
    for result in found.values():
        if "machine" in result:
            machine, key = result["machine"], result["key"]
            text = (
                f"{machine['cpu']}, {machine['stock_capability']} (bninv: "
                f"{machine['bninv_capability']}), threads: {machine['threads']}; torch "
                f"{machine['torch']}, timm {key['timm']}, torchvision {key['torchvision']}; "
                f"contract version {key['contract']}"
            )
            dates.setdefault(text, []).append(result["date"])
    return [
        f"float32 on {text}; {' to '.join(sorted({min(of), max(of)}))}."
        for text, of in dates.items()
    ]


def summary(found: Results) -> list[str]:
    ran = [r for r in found.values() if "failed" not in r]
    families = {entry.family for entry in found if entry.family}
    good = sum(map(results.is_good, ran))
    clean = sum(map(results.is_clean, ran))
    moved = sum(bool(r["stock_moved"]) for r in ran)
    lines = [
        f"{len(found)} models, of {len(families)} families of timm and of torchvision. Stock's",
        f"bits move in {moved}; patched, {good} have one set of bits a sample, and {clean} of them",
        "nothing uncovered.",
    ]
    if failed := len(found) - len(ran):
        lines.append(f"{failed} could not be run.")
    if left := len(ZOO) - len(found):
        lines.append(f"Not all yet: {left} models are still to be run.")
    if ran:
        error = [r["errors"]["ratio"]["rms"] for r in ran if "rms" in r["errors"]["ratio"]]
        lines.append(f"Error: median {middle(error)}, at most {max(error):.2f} times stock's.")
        for place, size in enumerate(row["batch_size"] for row in ran[0]["milliseconds"]):
            ratios = [r["milliseconds"][place]["ratio"] for r in ran]
            ends = f"from {min(ratios):.2f} to {max(ratios):.2f}"
            lines.append(f"Speed at batch {size}: median {middle(ratios)}, {ends}.")
    return lines


def middle(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.2f}"


def table(found: Results, row: Callable[[Entry, Result], list[str]]) -> str:
    columns = ["model", "family"] if row is row_of_family else ["model"]
    left = len(columns)
    columns += ["M params", "px", "stock moved", "patched moved", "not covered", "error", "speed"]
    return markdown(columns, [row(entry, result) for entry, result in found.items()], left)


def row_of_family(entry: Entry, result: Result) -> list[str]:
    name, *rest = row(entry, result)
    return [name, entry.family, *rest]


def row(entry: Entry, result: Result) -> list[str]:
    name = entry.name.removeprefix("torchvision:")
    if "failed" in result:
        return [name, f"{entry.millions:g}", "", "", "", f"failed: {result['failed']}", "", ""]
    moved = result["patched_moved"] or result["inference_mode_moved"]
    ratio = result["errors"]["ratio"]
    return [
        name,
        f"{result['parameters'] / 1e6:.1f}",
        str(result["pixels"]),
        f"{result['stock_moved']:,} of {result['elements']:,}",
        f"**{moved:,}**" if moved else "0",
        ", ".join(f"`{name}`" for name in results.uncovered(result)),
        f"{ratio['rms']:.2f} ({ratio['max']:.2f})" if "rms" in ratio and "max" in ratio else "",
        " / ".join(f"{timing['ratio']:.2f}" for timing in result["milliseconds"]),
    ]


def half(found: Results) -> list[str]:
    """What there is to say of bfloat16 and float16."""
    ran = {e.name: r["half"] for e, r in found.items() if e.name in IN_HALF and r.get("half")}
    bad = [
        f"{name} in {dtype}: {said['moved'] or 'not covered: ' + ', '.join(said['uncovered'])}"
        for name, halves in ran.items()
        for dtype, said in halves.items()
        if said["moved"] or said["uncovered"]
    ]
    lines = [
        "## In bfloat16 and float16",
        "",
        f"{', '.join(ran)}: alone, in batches of 2 and 5, at every place and among NaN. "
        + ("Not clean:" if bad else "One set of bits a sample in both, nothing uncovered."),
    ]
    return [*lines, *(f"- {text}" for text in bad), ""]


def notes(found: Results) -> list[str]:
    """What a reader would wonder at: samples mixed by meaning, and every warning."""
    lines = []
    for entry, result in found.items():
        said: list[Any] = result.get("warnings", [])
        texts = [" ".join(text.split()) for text in said]
        if entry.name in MEANING:
            texts.insert(0, f"it {MEANING[entry.name]}.")
        if result and result.get("finite") is False:
            texts.append("its outputs are not finite")
        if result and result.get("distinct") is False:
            texts.append("its outputs do not differ between images")
        lines += [f"- **{entry.name}**: {text}" for text in texts]
    return ["## What was warned of", "", *lines, ""] if lines else []
