"""What `make gpu` does, in order: the most important figures come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What a patched model's results depend on.
LIBRARY = ("csrc", "bninv")
SHARED = ("benchmarks/gpu/device.py", "benchmarks/gpu/record.py", "benchmarks/gpu/stage.py")
TIMING = ("benchmarks/harness.py", "benchmarks/cuda_timing.py", "benchmarks/stock_cudnn.py")


@dataclass(frozen=True)
class Stage:
    """One step, run in a process of its own.

    Attributes:
        seconds: its share of the time. A stage may also use what earlier ones left of theirs.
        document: NAME.json is what it writes; those of the benchmarks are their own.
        proves: it can fail for a wrong result, and then the command fails.
        sources: files and folders, from the root, on which its rows depend.
        needs: modules beyond those that bninv itself needs.
        script: a benchmark of its own command line; without one the module of its name here.
        arguments: of that script, by kind of device.
    """

    name: str
    seconds: int
    document: str
    proves: bool
    sources: Sequence[str]
    needs: Sequence[str] = ()
    script: str = ""
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)


STAGES = (
    Stage("build", 130, "build", True, (*LIBRARY, *SHARED, "benchmarks/gpu/build.py")),
    Stage(
        "matrix-quick",
        25,
        "matrix_quick",
        True,
        (*LIBRARY, *SHARED, "benchmarks/gpu/matrix.py"),
        needs=("timm",),
    ),
    Stage(
        "operators",
        35,
        "operators",
        True,
        (
            *(*LIBRARY, *SHARED, "benchmarks/gpu/operators.py", "benchmarks/gpu/draws.py"),
            *("tests/emulated.py", "tests/properties.py"),
        ),
        needs=("pytest", "numpy"),
    ),
)
