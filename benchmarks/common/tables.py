"""Tables, plain and in Markdown: a GPU machine may have nothing but torch and the models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plain(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Aligned columns under a title.

    Args:
        columns: a heading each; "\\n" breaks it.
        left: so many columns are aligned left, the others right.
    """
    headings = [column.split("\n") for column in columns]
    depth = max(map(len, headings))
    lines = [[""] * (depth - len(h)) + h for h in headings]
    cells = [*zip(*lines, strict=True), *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    text = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    text.insert(depth, "  ".join("-" * width for width in widths))
    return "\n".join(["", title, "", *text])


def markdown(
    columns: Sequence[str], rows: Iterable[Sequence[object]], left: int | None = None
) -> str:
    """
    Args:
        left: so many columns are aligned left, the others right; None: all left.
    """
    right = 0 if left is None else len(columns) - left
    lines = [columns, ["---"] * (len(columns) - right) + ["---:"] * right, *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
