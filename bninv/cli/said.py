"""What --quiet still says."""

from __future__ import annotations

import sys

from bninv.checking.repeat import RepeatResult
from bninv.checking.result import CheckResult


def say_why(result: CheckResult | RepeatResult) -> None:
    """One line on standard error, if the result has not passed."""
    if result.passed:
        return
    if isinstance(result, RepeatResult):
        from bninv.report.repeat import failure as repeat_failure

        reason = repeat_failure(result)
    else:
        from bninv.report.wording import failure

        reason = failure(result)
    print(f"bninv: {result.model} has not passed: {reason}", file=sys.stderr, flush=True)
