"""The report's part about stock PyTorch: what moves the bits. Pure: rows in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import markdown

Row = Mapping[str, Any]


def number(value: float | None) -> str:
    """Two significant digits; an infinity, which JSON has as null, by its name."""
    return "infinite" if value is None else f"{value:.2g}"


def section(rows: Mapping[str, Row]) -> str:
    """The verdict, then the tables it is drawn from."""
    models = {label: row for label, row in rows.items() if "operators" in row}
    norms = {
        label.removeprefix("batch_norm "): row
        for label, row in rows.items()
        if label.startswith("batch_norm ")
    }
    if not models and not norms:
        return ""
    parts = ["## What moves the bits of stock PyTorch"]
    parts += [verdict(models, norms), operators_table(models), norms_table(norms)]
    return "\n\n".join(part for part in parts if part)


def verdict(models: Mapping[str, Row], norms: Mapping[str, Row]) -> str:
    """Computed from the rows alone: who moved, and whether BatchNorm ever did."""
    sentences = []
    if models:
        label, base = next(iter(models.items()))
        moved = movers(base)
        name = f"{base['model']} as PyTorch runs it by default" if "defaults" in label else label
        if moved:
            listed = ", ".join(f"{kind} ({m} of {n} calls)" for kind, m, n in moved)
            sentences.append(f"In {name}, given identical inputs, these moved: {listed}.")
        else:
            sentences.append(f"In {name} no operator moved.")
        unmoved = [label for label, row in models.items() if not row["logits"]["moved_at"]]
        moved_under = len(models) - len(unmoved)
        but = f" (not under: {'; '.join(unmoved)})." if unmoved else "."
        sentences.append(
            f"The model's outputs moved under {moved_under} of {len(models)} settings{but}"
        )
    sentences.append(batch_norm_verdict(models, norms))
    return " ".join(sentences)


def batch_norm_verdict(models: Mapping[str, Row], norms: Mapping[str, Row]) -> str:
    in_models = [row["operators"].get("batch_norm") for row in models.values()]
    calls = sum(kind["calls"] for kind in in_models if kind)
    moved = sum(kind["moved"] for kind in in_models if kind)
    ran = {label: row for label, row in norms.items() if "moved" in row}
    guilty = [label for label, row in ran.items() if row["moved"]]
    if not calls and not ran:
        return "BatchNorm was not examined."
    seen = (
        f"{moved} of its {calls} calls in these models and {len(guilty)} of {len(ran)} calls alone"
    )
    if not moved and not guilty:
        return f"**BatchNorm in eval mode never moved a bit**: {seen}."
    where = f", first: {guilty[0]}" if guilty else ""
    if not moved:
        return f"**BatchNorm in eval mode moved, but not in these models**: {seen}{where}."
    return f"**BatchNorm in eval mode moved bits**: {seen}{where}."


def movers(row: Row) -> list[tuple[str, int, int]]:
    """(operator, calls that moved, calls), the most often moved first."""
    found = [(kind, v["moved"], v["calls"]) for kind, v in row["operators"].items() if v["moved"]]
    return sorted(found, key=lambda entry: -entry[1])


def operators_table(models: Mapping[str, Row]) -> str:
    if not models:
        return ""
    kinds = list(dict.fromkeys(kind for row in models.values() for kind in row["operators"]))
    rows: list[Sequence[object]] = []
    for label, row in models.items():
        cells = []
        for kind in kinds:
            found = row["operators"].get(kind)
            if not found:
                cells.append("")
            elif not found["moved"]:
                cells.append(f"0 of {found['calls']}")
            else:
                share = f"{found['moved']} of {found['calls']}"
                cells.append(f"**{share}**, {number(found['max_relative'])}")
        logits = row["logits"]
        moved = f"{number(logits['max_abs'])} of {number(logits['largest'])}"
        rows.append((label, *cells, moved if logits["moved_at"] else "0"))
    note = (
        "Calls whose results moved when a sample came alone, in a smaller batch or at another "
        "position, and by how much at most, relative to the largest element. Last: the outputs."
    )
    return f"{note}\n\n{markdown(('setting', *kinds, 'outputs'), rows)}"


def norms_table(norms: Mapping[str, Row]) -> str:
    """Those that moved, all of them; of the others only how many."""
    if not norms:
        return ""
    left = {label: row["left_out"] for label, row in norms.items() if "left_out" in row}
    ran = {label: row for label, row in norms.items() if "moved" in row}
    guilty = {label: row for label, row in ran.items() if row["moved"]}
    lines = [
        f"BatchNorm alone, in eval mode, on both sides of each of its switches: {len(guilty)} of "
        f"{len(ran)} cases moved."
    ]
    if left:
        lines.append(
            f"{len(left)} were left out: " + "; ".join(f"{k} {v}" for k, v in left.items())
        )
    text = " ".join(lines)
    if not guilty:
        return text
    rows = [
        (label, ", ".join(row["moved"]), number(row["max_abs"]), row["max_ulp"])
        for label, row in guilty.items()
    ]
    return f"{text}\n\n{markdown(('case', 'moved', 'by at most', 'ulp'), rows)}"
