"""The report's section on tensor cores: do they give the model's bits, and how fast are they."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import markdown

Row = Mapping[str, Any]
Document = Mapping[str, Any]
# Of a row of tensor-facts, with the column's title.
PAIRS = {
    "model": "the model",
    "numpy": "NumPy",
    "moved": "moved",
    "permuted": "permuted",
    "segments": "128 terms",
    "mma": "mma.sync",
}
NOTE = (
    "Random operands, drawn to be hard, through one instruction each; counted is what did not have "
    "the bits of csrc/tensor_block.h's model, of NumPy's, of itself at another place of a tile or "
    "with its terms in another order, of the model of 128 terms, and wgmma's of mma.sync."
)


def section(facts: Document, speed: Document) -> str:
    rows = {name: row for name, row in facts.get("rows", {}).items() if "model" in row}
    on_host = {name: row for name, row in facts.get("rows", {}).items() if "compared" in row}
    parts = []
    if rows:
        parts += [NOTE, compared(rows), told_apart(rows)]
    if on_host:
        outputs = sum(row["compared"] for row in on_host.values())
        wrong = sum(not row["ok"] for row in on_host.values())
        parts.append(f"The model in C++ against NumPy's: {outputs} outputs, {wrong} formats wrong.")
    timed = {name: row for name, row in speed.get("rows", {}).items() if "best" in row}
    if timed:
        parts.append(ceilings(timed))
    return "\n\n".join(["## Tensor cores", *parts]) if parts else ""


def wrong(row: Row, key: str) -> str:
    if key not in row:
        return ""
    differ, of = row[key]["differ"], row[key]["of"]
    return f"**{differ} of {of}**" if differ else "0"


def compared(rows: Mapping[str, Row]) -> str:
    lines = [
        (name, row["class"], f"{row['model']['of']:,}", *(wrong(row, key) for key in PAIRS))
        for name, row in rows.items()
    ]
    return markdown(("instruction", "class", "outputs", *PAIRS.values()), lines)


def told_apart(rows: Mapping[str, Row]) -> str:
    """Whether the draws could have told the model's rules from others."""
    names = list(next(iter(rows.values()))["rules"])
    lines = []
    for name in names:
        by = [row["rules"].get(name, 0) / row["model"]["of"] for row in rows.values()]
        lines.append((name, f"{100 * min(by):.2g} %", f"{100 * max(by):.2g} %"))
    return (
        "Of the same outputs, what other rules would have got wrong (least and most over the "
        f"instructions):\n\n{markdown(('rule', 'least', 'most'), lines)}"
    )


def ceilings(rows: Mapping[str, Row]) -> str:
    titles: Sequence[str] = ("instruction", "best TFLOP/s", "for 0.25 s", "warps of an SM")
    lines = [
        (name, f"{row['best']:.0f}", f"{row['sustained']:.0f}", row["warps"])
        for name, row in rows.items()
    ]
    return f"The most that the instructions do, operands at hand:\n\n{markdown(titles, lines)}"
