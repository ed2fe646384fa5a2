"""What bench_models.py makes of its rows: a summary of groups, and tables."""

from __future__ import annotations

from typing import Any

from benchmarks.common.tables import plain

Row = dict[str, Any]
SETTING = ("model", "dtype", "batch_size")


def by_setting(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows of the same model, dtype and batch size together: one for each group."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in SETTING), []).append(row)
    return found


def summarize(rows: list[Row]) -> list[Row]:
    """Each setting's ratio to its best stock, whichever group that is in.

    Ratios of one group are compared, not times across groups: those were not taken in turn.
    """
    summary = []
    for setting, groups in by_setting(rows).items():
        best = min(groups, key=lambda row: row["ratio"])
        entry = dict(zip(SETTING, setting, strict=True))
        entry |= {key: best[key] for key in ("ratio", "best_stock")}
        if "eager_ratio" in best:
            entry["eager_ratio"] = min(row["eager_ratio"] for row in groups)
        entry["groups"] = [row["group"] for row in groups]
        entry["ratios"] = {n: r for row in reversed(groups) for n, r in ratios(row).items()}
        # Of the first group that has the candidate: what it gives does not depend on the others.
        for key in ("images_per_s", "peak_mib", "error"):
            entry[key] = {n: v for row in reversed(groups) for n, v in row.get(key, {}).items()}
        entry["load"] = groups[0].get("load", {})
        summary.append(entry)
    return summary


def summaries(rows: list[Row]) -> dict[str, list[Row]]:
    return {"summary": summarize(rows)}


def ratios(row: Row) -> dict[str, float]:
    """Every candidate's; those without a graph by what a caller waits for."""
    return {**row.get("eager_ratios", {}), **row["ratios"]}


def show(rows: list[Row]) -> None:
    for groups in by_setting(rows).values():
        for row in groups:
            print(row_table(row))
            for call in row["uncovered"]:
                print(f"patched leaves to stock: {call}")
            for name, reason in row["failures"].items():
                print(f"{name} failed: {reason}")
    lines = [
        (
            entry["model"],
            entry["dtype"],
            str(entry["batch_size"]),
            f"{entry['ratio']:.2f}",
            *([f"{entry['eager_ratio']:.2f}"] if "eager_ratio" in entry else []),
            entry["best_stock"],
        )
        for entry in summarize(rows)
    ]
    columns = ["model", "dtype", "batch", "ratio", "eager\nratio", "best stock"]
    if not any("eager_ratio" in row for row in rows):
        columns.remove("eager\nratio")
    title = "The best IEEE stock's time to patched's: above 1, patched is faster"
    print(plain(title, columns, lines, left=2))


def row_table(row: Row) -> str:
    """A line for each candidate."""
    on_gpu = "eager_milliseconds" in row
    waits = row["eager_milliseconds"] if on_gpu else row["milliseconds"]
    lines = []
    for name, wait in waits.items():
        t = row["milliseconds"].get(name)
        peak = row["peak_mib"][name]
        lines.append(
            (
                name,
                f"{t['median']:#.4g}" if t else "",
                f"{t['low']:#.3g} - {t['high']:#.3g}" if t else "",
                *([f"{wait['median']:#.4g}"] if on_gpu else []),
                f"{row['images_per_s'][name]:#.4g}",
                "" if peak is None else f"{peak:.0f}",
                f"{row['error'][name]:.1e}" if name in row.get("error", {}) else "",
                f"{ratios(row).get(name, 1.0):.2f}",
            )
        )
    title = "{model}, {dtype}, batch {batch_size}, {group}".format(**row)
    eager = ["eager\nms"] if on_gpu else []
    columns = ["", "ms", "quartiles", *eager, "images/s", "peak\nMiB", "error", "time to\npatched"]
    return plain(title, columns, lines)
