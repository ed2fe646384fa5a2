"""The report's part about speed: what the benchmarks against stock wrote. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.markdown import table

Document = Mapping[str, Any]


def section(documents: Mapping[str, Document], images: Sequence[str] = ()) -> str:
    """Models first, then their parts. On a CPU the files' names end in _cpu."""
    parts = []
    for name, part in (("models", models), ("conv", convolutions), ("batch_norm", batch_norms)):
        document = documents.get(name) or documents.get(f"{name}_cpu") or {}
        if document.get("rows"):
            drawn = [image for image in images if image.startswith(name)]
            parts += [part(document), *(f"![{image}]({image})" for image in drawn)]
    if not parts:
        return ""
    note = (
        "Ratios are the time of the best stock in IEEE arithmetic to bninv's: above 1, bninv is "
        "faster. TF32 and compiled stock stand beside it: the time of the best of them to bninv's."
    )
    return "\n\n".join(["## Speed", note, *parts])


def models(document: Document) -> str:
    lines = []
    for entry in document.get("summary", []):
        others = (best_of(entry["ratios"], word) for word in ("TF32", "compiled"))
        eager = ratio(entry.get("eager_ratio"))
        setting = (entry["model"], entry["dtype"], entry["batch_size"])
        lines.append((*setting, ratio(entry["ratio"]), entry["best_stock"], eager, *others))
    titles = ("model", "dtype", "batch", "ratio", "best stock", "as called", "TF32", "compiled")
    return table(titles, lines)


def best_of(ratios: Mapping[str, float], word: str) -> str:
    """The fastest of the candidates with the word in their names."""
    found = [value for name, value in ratios.items() if word in name]
    return ratio(min(found)) if found else ""


def convolutions(document: Document) -> str:
    lines = [
        (
            *(entry[key] for key in ("model", "operation", "dtype", "batch_size")),
            ratio(entry["ratio"]),
            entry["best_stock"],
            fraction(document, entry, "fraction_of_gemm"),
            fraction(document, entry, "fraction_of_copy"),
        )
        for entry in document.get("networks", [])
    ]
    titles = ("convolutions of", "", "dtype", "batch", "ratio", "best stock", "of GEMM", "of copy")
    note = (
        "Of a layer's rate the median share of a large float32 GEMM's, and of a large copy's "
        f"bandwidth ({references(document)})."
    )
    return f"{table(titles, lines)}\n\n{note}"


def batch_norms(document: Document) -> str:
    keys = ("model", "dtype", "batch_size", "memory_format")
    lines = [
        (*(entry[key] for key in keys), ratio(entry["ratio"]), fraction(document, entry))
        for entry in document.get("networks", [])
    ]
    titles = ("BatchNorms of", "dtype", "batch", "memory format", "ratio", "of copy")
    note = f"With what follows them, fused. A large copy: {references(document)}."
    return f"{table(titles, lines)}\n\n{note}"


def fraction(document: Document, entry: Mapping[str, Any], key: str = "fraction_of_copy") -> str:
    """The median over rows of the entry's setting."""
    shared = ("dtype", "batch_size", "memory_format", "operation")
    found = []
    for row in document["rows"]:
        if all(row.get(name) == entry[name] for name in shared if name in entry):
            value = row.get(key)
            found.append(value["bninv"] if isinstance(value, Mapping) else value)
    found = [value for value in found if value is not None]
    return f"{statistics.median(found):.0%}" if found else ""


def references(document: Document) -> str:
    units = {"gemm_tflops": "TFLOP/s", "copy_gb_per_s": "GB/s"}
    measured = document.get("measured", {})
    return ", ".join(f"{measured[k]:.4g} {unit}" for k, unit in units.items() if k in measured)


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
