"""What came of a stage, and of them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.gpu import record
from tests.gpu.stages import Stage

TAIL = 3000  # characters of its output that a failed stage leaves in the report
PASSED, FAILED, UNFINISHED, LEFT_OUT, CRASHED = (
    "passed",
    "failed",
    "unfinished",
    "left out",
    "crashed",
)
Outcome = dict[str, Any]


def outcome_of(
    stage: Stage, status: int | None, document: Mapping[str, Any], output: str
) -> Outcome:
    """What came of a stage that was run.

    Args:
        status: its exit status; None: it had to be ended.
        document: what it wrote, from the sources of now.
        output: what it printed.
    """
    rows = {} if stage.script else document.get("rows", {})
    total = document.get("total", 0)
    wrong = record.failures({"rows": rows})
    failed = [name for name, row in wrong.items() if "error" not in row]
    late = [name for name in wrong if "TimeoutError" in rows[name].get("error", "")]
    raised = [name for name in wrong if name not in failed and name not in late]
    if failed:
        first = rows[failed[0]].get("first", "")
        return {"status": FAILED, "why": f"{len(failed)} of {total}: {failed[0]}: {first}"}
    if raised:
        reason = rows[raised[0]]["error"].strip().splitlines()[-1]
        why = f"{len(raised)} of {total} raised: {raised[0]}: {reason}"
        return {"status": CRASHED, "why": why}
    if status not in (0, None) or (status == 0 and not document and not stage.script):
        return {"status": CRASHED, "why": record.without_paths(output[-TAIL:])}
    left = re.search(r"\d+ \w+ are left for --resume", output) if stage.script else None
    without = [row["left_out"] for row in rows.values() if "left_out" in row]
    if without and len(without) == total:
        return {"status": LEFT_OUT, "why": without[0]}
    if status is None or left or late or len(rows) < (0 if stage.script else total):
        done = f" after {len(rows) - len(late)} of {total}" if total else ""
        return {"status": UNFINISHED, "why": left[0] if left else f"its time was over{done}"}
    return {"status": PASSED, "why": ""}


def exit_status(stages: Sequence[Stage], outcomes: Mapping[str, Outcome]) -> int:
    """1 if something that proves failed or crashed, 3 if anything was not reached, else 0."""
    status = 0
    for stage in stages:
        found = outcomes.get(stage.name, {}).get("status")
        if stage.proves and found in (FAILED, CRASHED):
            return 1
        if found != PASSED:
            status = 3
    return status
