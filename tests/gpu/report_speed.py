"""The report's part about speed: what the benchmarks against stock wrote. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import markdown

Document = Mapping[str, Any]


def section(documents: Mapping[str, Document], images: Sequence[str] = ()) -> str:
    """Models first, then their parts. On a CPU the files' names end in _cpu."""
    parts = []
    for name, part in (
        ("models", models),
        ("conv", convolutions),
        ("tiles", tiles),
        ("batch_norm", batch_norms),
    ):
        document = documents.get(name) or documents.get(f"{name}_cpu") or {}
        if document.get("rows"):
            drawn = [image for image in images if image.startswith(name)]
            parts += [part(document), *(f"![{image}]({image})" for image in drawn)]
    if not parts:
        return ""
    return "\n\n".join(["## Speed", *parts])


# What users run on a GPU, by the names that bench_models.py gives it.
DEFAULT = ("stock channels_last, TF32", "stock NCHW, TF32")
IEEE = ("stock channels_last", "stock NCHW")
OURS, OURS_AMP, AMP = "patched", "patched, AMP", "stock channels_last, AMP"
COMPILED = {
    "compiled": ("compiled channels_last, TF32", "compiled channels_last"),
    "compiled AMP": ("compiled channels_last, AMP",),
}


def models(document: Document) -> str:
    note = (
        "The GPU's time alone, of replays of a CUDA graph; beside each of stock's ways to run, its "
        "time to bninv's: above 1, bninv is faster. `default` is PyTorch as it comes, with TF32 in "
        "convolutions of float32; `as called` is what a caller in Python waits for, against the "
        "better of stock's in IEEE arithmetic."
    )
    lines = []
    for entry in document.get("summary", []):
        ratios, rates = entry["ratios"], entry.get("images_per_s", {})
        setting = (entry["model"], entry["dtype"], entry["batch_size"])
        amp = ratios[AMP] / ratios[OURS_AMP] if ratios.keys() >= {AMP, OURS_AMP} else None
        lines.append(
            (
                *setting,
                f"{rates[OURS]:.0f}" if OURS in rates else "",
                best_of(ratios, DEFAULT),
                ratio(entry["ratio"]),
                *(best_of(ratios, names) for names in COMPILED.values()),
                ratio(amp),
                ratio(entry.get("eager_ratio")),
                clock(entry.get("load", {})),
            )
        )
    titles = ("model", "dtype", "batch", "images/s", "default", "IEEE", *COMPILED)
    titles = (*titles, "AMP to our AMP", "as called", "clock, power")
    return "\n\n".join([note, markdown(titles, lines), *accuracy(document)])


def accuracy(document: Document) -> list[str]:
    """Errors and memory, of the ways to run side by side."""
    ways = {"bninv": OURS, "IEEE": IEEE[0], "default": DEFAULT[0], "AMP": AMP, "our AMP": OURS_AMP}
    lines = []
    for entry in document.get("summary", []):
        errors, peaks = entry.get("error", {}), entry.get("peak_mib", {})
        if not errors:
            continue
        setting = (entry["model"], entry["dtype"], entry["batch_size"])
        error = [f"{errors[name]:.1e}" if name in errors else "" for name in ways.values()]
        lines.append((*setting, *error, *(memory(peaks.get(w)) for w in (OURS, DEFAULT[0]))))
    if not lines:
        return []
    note = (
        "Greatest difference to the same network in float64, as a part of the greatest output; and "
        "the most memory of a forward, weights and input aside."
    )
    titles = ("model", "dtype", "batch", *(f"error, {way}" for way in ways), "MiB", "MiB, default")
    return [note, markdown(titles, lines)]


def best_of(ratios: Mapping[str, float], names: Sequence[str]) -> str:
    """The fastest of those that were measured."""
    found = [ratios[name] for name in names if name in ratios]
    return ratio(min(found)) if found else ""


def clock(load: Mapping[str, float]) -> str:
    return "{sm_mhz:.0f} MHz, {watts:.0f} W".format(**load) if "watts" in load else ""


def memory(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


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
    return f"{markdown(titles, lines)}\n\n{note}"


def tiles(document: Document) -> str:
    lines = [
        (
            *(row[key] for key in ("conv", "dtype", "batch_size", "best")),
            f"{row['microseconds'][row['best']]:.4g}",
            f"{row['microseconds']['plan']:.4g}",
            ratio(row["ratio"]),
            f"{row['tflops']:.3g}",
        )
        for row in document["rows"]
    ]
    titles = ("layer", "dtype", "batch", "fastest", "us", "the plan's us", "ratio", "TFLOP/s")
    note = (
        "Every tile and split of each convolution, BatchNorm and ReLU fused: the fastest, and what "
        "the plan chose."
    )
    return f"{note}\n\n{markdown(titles, lines)}"


def batch_norms(document: Document) -> str:
    keys = ("model", "dtype", "batch_size", "memory_format")
    lines = [
        (*(entry[key] for key in keys), ratio(entry["ratio"]), fraction(document, entry))
        for entry in document.get("networks", [])
    ]
    titles = ("BatchNorms of", "dtype", "batch", "memory format", "ratio", "of copy")
    note = f"With what follows them, fused. A large copy: {references(document)}."
    return f"{markdown(titles, lines)}\n\n{note}"


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
