"""An audit's result in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bninv.auditing.comparison import Audit, LayerChange

_WORDS = {
    "ieee": "IEEE arithmetic (R1)",
    "tensor-A": "the arithmetic of tensor cores of class A (R9)",
    "tensor-H": "the arithmetic of tensor cores of class H (R9)",
}
_MOST = 8  # names that are listed


def lines(audit: Audit) -> Iterator[str]:
    """What an audit found, the answer first."""
    where = f"recorded on {audit.recorded_on}, computed again on {audit.device}"
    how = _WORDS.get(audit.arithmetic, audit.arithmetic)
    if audit.equal:
        yield f"Equal: every output and all {audit.layers:,} layers have the record's bits."
        yield f"In {how}; {where}."
        return
    yield "Not equal to the record."
    if audit.broken:
        yield f"The record contradicts itself: {audit.broken}. Somebody has changed the file."
    if audit.weights:
        shown = ", ".join(audit.weights[:_MOST])
        more = f" and {len(audit.weights) - _MOST} more" if len(audit.weights) > _MOST else ""
        yield f"Other weights ({len(audit.weights)}): {shown}{more}."
    if audit.first is not None:
        layer = audit.first
        name = layer.name or "the model itself"
        call = f", call {layer.call + 1}" if layer.call else ""
        yield f"The first layer that differs is {name} ({layer.kind}{call}){_measured(layer)}."
    elif audit.outputs and not audit.broken:
        yield "No layer differs."
    for change in audit.outputs[:_MOST]:
        yield f"{change.name} differs{_measured(change)}."
    yield f"In {how}; {where}."


def to_text(audit: Audit) -> str:
    """The same as one text."""
    return "\n".join(lines(audit))


def _measured(change: LayerChange) -> str:
    if change.differing is None:
        return ""
    steps = "" if change.max_ulp is None else f" ({change.max_ulp:,} ulp)"
    return (
        f": {change.differing:,} of {change.elements:,} elements, at most {change.max_abs:.2g}"
        f"{steps}"
    )
