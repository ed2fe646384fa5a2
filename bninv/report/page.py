"""A CheckResult as one HTML page that opens anywhere: no script, nothing loaded from outside.

Names of models and modules and lines of code are the user's: whatever is not written here goes
through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template

from bninv.checking.depth import DepthRow
from bninv.checking.result import CheckResult
from bninv.checking.sites import Site
from bninv.report import detections
from bninv.report.environment import environment, origin
from bninv.report.pictures import to_figures
from bninv.report.svg import to_svg
from bninv.report.wording import cells, familiar, legend, module_name, outputs, sides, verdict

_ROWS = [
    *("model", "batch size", "outputs with other bits", "largest difference"),
    *("the same in ulp", "top-1 changes"),
]
_OUTPUTS = [
    *("output", "stock: other bits", "stock: difference"),
    *("patched: other bits", "patched: difference"),
]
_DEPTH = [
    *("call", "module", "kind", "stock: other bits", "stock: difference"),
    *("patched: other bits", "patched: difference"),
]


def to_html(result: CheckResult) -> str:
    """The page: verdict, rows, culprits, what is uncovered, the plot of depth, environment."""
    template = Template(resources.files("bninv.report").joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        title=escape(f"bninv check {result.model}"),
        model=escape(result.model),
        what=escape(f"{result.dtype} on {result.device}, {len(result.samples)} samples"),
        outcome="passed" if result.passed else "failed",
        headline="Passed" if result.passed else "Not passed",
        verdict="\n".join(
            f'<p class="{_tone(str(line.style))}">{escape(line.plain)}</p>'
            for line in verdict(result)
        ),
        legend=escape(legend(result)),
        dtype=escape(result.dtype),
        rows=_rows(result) + _detections(result) + _outputs(result),
        pictures=to_figures(result),
        culprits=_culprits(result),
        uncovered=_uncovered(result),
        depth=_depth(result),
        environment="\n".join(
            f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>"
            for name, fact in {**origin(result), **environment()}.items()
        ),
    )


def _rows(result: CheckResult) -> str:
    lines = []
    for name, rows in sides(result):
        for index, row in enumerate(rows):
            tones = [
                f'<td class="{_tone(str(c.style))}">{escape(c.plain)}</td>' for c in cells(row)
            ]
            kind = "" if index else ' class="first"'
            lines.append(f'<tr{kind}><th scope="row">{name}</th>{"".join(tones)}</tr>')
    return _table("The same samples in batches of several sizes", _ROWS, lines, "rows")


def _detections(result: CheckResult) -> str:
    if result.patched.detections is None:
        return ""
    lines = []
    for name, cells_of in detections.table_rows(result):
        cells_text = "".join(
            f'<td class="{_tone(str(c.style))}">{escape(c.plain)}</td>' for c in cells_of
        )
        lines.append(f'<tr><th scope="row">{name}</th>{cells_text}</tr>')
    names = ("model", "batch size", "images changed", *detections.columns(result))
    return _table(f"Detections. {detections.caption(result)}", names, lines, "rows")


def _outputs(result: CheckResult) -> str:
    found = outputs(result)
    if not found:
        return ""
    lines = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(text.plain)}</td>" for text in texts)
        + "</tr>"
        for name, texts in found
    ]
    return _table("Each output, at the batch size where it moved most", _OUTPUTS, lines, "rows")


def _culprits(result: CheckResult) -> str:
    found = result.stock.culprits
    if not found:
        return "<p>No operator of the stock model gave other bits when handed identical inputs.</p>"
    lines = []
    for culprit in found:
        calls = f"{culprit.moved} of {culprit.total}"
        lines += _by_line(familiar(culprit.kind), calls, culprit.sites)
    caption = "Operators that gave other bits when handed identical inputs, sample by sample"
    return _table(caption, ("operator", "calls that moved", "there", "called from"), lines, "calls")


def _uncovered(result: CheckResult) -> str:
    found = result.uncovered
    if not found:
        return "<p>None: every operator of the patched model is bninv's own or exact.</p>"
    lines = []
    for entry in found:
        lines += _by_line(entry.operator, f"{entry.count}", entry.sites)
    caption = "Operators that are PyTorch's own and not known to be exact"
    return _table(caption, ("operator", "calls", "there", "called from"), lines, "calls")


def _by_line(operator: str, calls: str, sites: Sequence[Site]) -> list[str]:
    """A row for each line an operator was called from; its name stands over all of them."""
    by_line: dict[tuple[str, str], list[Site]] = {}
    for site in sites:
        by_line.setdefault((site.line, site.code), []).append(site)
    span = f' rowspan="{len(by_line)}"' if len(by_line) > 1 else ""
    head = f'<th scope="row"{span}>{escape(operator)}</th><td{span}>{escape(calls)}</td>'
    lines = []
    for (line, code), here in by_line.items():
        where = f"<code>{escape(code)}</code><small>{escape(line)}</small>" if line else ""
        count = sum(site.calls for site in here)
        lines.append(
            f'<tr>{head}<td>{count}</td><td class="where">{where}{_modules(here)}</td></tr>'
        )
        head = ""
    return lines


def _modules(sites: Sequence[Site]) -> str:
    """The modules a line ran in; many of them folded up behind the first."""
    names = [
        escape(module_name(site.module)) + (f" ({site.calls} calls)" if site.calls > 1 else "")
        for site in sites
    ]
    if len(names) == 1:
        return f"in {names[0]}"
    items = "".join(f"<li>{name}</li>" for name in names)
    return (
        f"<details><summary>in {names[0]} and {len(names) - 1} more</summary>"
        f"<ul>{items}</ul></details>"
    )


def _depth(result: CheckResult) -> str:
    picture = to_svg(result)
    if not picture:
        return ""
    stock, patched = (
        {(row.module, call): row for row, call in _numbered(side.depth or [])}
        for side in (result.stock, result.patched)
    )
    lines = []
    for number, key in enumerate(stock | patched, 1):
        pair = (stock.get(key), patched.get(key))
        row = pair[0] or pair[1]
        assert row is not None
        numbers = "".join(f"<td>{text}</td>" for side in pair for text in _numbers(side))
        name = escape(module_name(row.module))
        lines.append(
            f'<tr><td>{number}</td><th scope="row">{name}</th><td>{escape(row.kind)}</td>{numbers}'
            "</tr>"
        )
    table = _table("One row for each call of a module", _DEPTH, lines, "depth")
    return (
        "<section><h2>Difference over depth</h2>\n"
        f"<p>What every module gave to one sample alone and in a batch of "
        f"{result.depth_batch_size}: the largest difference, relative to the module's largest "
        "output. Point at a mark for its module.</p>\n"
        f'<div class="wide" tabindex="0">{picture}</div>\n'
        f"<details><summary>All {len(lines):,} module calls</summary>{table}</details></section>"
    )


def _numbered(rows: Iterable[DepthRow]) -> Iterable[tuple[DepthRow, int]]:
    calls: dict[str, int] = {}
    for row in rows:
        calls[row.module] = calls.get(row.module, 0) + 1
        yield row, calls[row.module]


def _numbers(row: DepthRow | None) -> tuple[str, str]:
    if row is None:
        return "-", "-"
    distance = f"{row.max_rel:.1e}" if math.isfinite(row.max_rel) else "NaN or Inf"
    return f"{row.differing:,} of {row.elements:,}", distance if row.differing else "0"


def _table(caption: str, columns: Sequence[str], lines: Sequence[str], kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(lines)
    return (
        f'<div class="wide" tabindex="0"><table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _tone(style: str) -> str:
    """The page's class for a style of the report on a terminal."""
    for colour, tone in (("red", "bad"), ("yellow", "warn"), ("green", "good"), ("dim", "note")):
        if colour in style:
            return tone
    return "plain"
