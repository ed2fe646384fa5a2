"""What `make gpu` does: proofs, side by side, then the benchmarks, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One step, run in a process of its own.

    Attributes:
        seconds: a proof's: what it took on an H100 beside the others, with room to spare; a
            benchmark's: its share of what the proofs leave.
        document: NAME.json is what it writes; a benchmark's is the benchmark's own.
        proves: it can find a wrong result, and then the command fails.
        sources: files and folders, from the root, on which its rows depend.
        needs: modules beyond torch and NumPy.
        script: a benchmark, a module with a command line; without one, the module of its name.
        arguments: of that script, by device; {folder} is that of the results, {seconds} its time.
        prepares: it builds what others need, so it runs even if its rows are known.
        measures: it looks at the clock as a benchmark does, and so has the machine to itself.
    """

    name: str
    seconds: int
    document: str
    proves: bool
    sources: Sequence[str]
    needs: Sequence[str] = ()
    script: str = ""
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prepares: bool = False
    measures: bool = False

    @property
    def needs_library(self) -> bool:
        return "csrc" in self.sources

    @property
    def is_benchmark(self) -> bool:
        return bool(self.script) or self.measures

    def runs_on(self, device: str) -> bool:
        if self.script:
            return device in self.arguments
        return device == "cuda" or not self.measures

    def name_of_document(self, device: str) -> str:
        return f"{self.document}_cpu" if self.script and device != "cuda" else self.document


_LIBRARY = ("csrc", "bninv")
# Of the tensor cores themselves: no operator is asked.
_TENSOR = (
    *(f"tests/gpu/tensor{kind}" for kind in (".py", "_program.py", "_facts/")),
    *("tests/gpu/device.py", "tests/gpu/record.py", "tests/gpu/stage.py"),
    *("tests/support/reference_tensor.py", "tests/support/tensor_cases.py"),
    *("csrc/tensor_block.h", "csrc/numerics.h"),
)


def _own(
    name: str, seconds: int, *sources: str, needs: Sequence[str] = (), **options: Any
) -> Stage:
    """A stage that is a module here: it compares bits, and says so."""
    here = ("device", "record", "stage", *sources)
    files = tuple(source if "/" in source else f"tests/gpu/{source}.py" for source in here)
    return Stage(name, seconds, name.replace("-", "_"), True, (*_LIBRARY, *files), needs, **options)


def _benchmark(name: str, seconds: int, document: str, emulated: str = "") -> Stage:
    """A script of its own, which says nothing of bits; it begins with what matters most.

    Args:
        emulated: its further arguments where the host stands for a GPU; without any it is not run.
    """
    shared = "--folder {folder} --resume --budget {seconds}"
    arguments = {"cuda": f"--device cuda {shared}".split()}
    if emulated:
        arguments["emulated"] = f"--device cpu {shared} {emulated}".split()
    script = f"benchmarks.{name}"
    sources = (*_LIBRARY, "benchmarks/*.py", "benchmarks/common/")
    return Stage(name, seconds, document, False, sources, ("timm",), script, arguments)


STAGES = (
    _own("build", 20, "build", prepares=True),
    # A few batches of one network first: whoever has only a minute knows the most after these.
    _own("matrix-quick", 20, "matrix", needs=("timm",)),
    _own(
        "operators",
        40,
        *("operators", "draws", "tests/support/emulated.py", "tests/support/properties.py"),
        needs=("pytest",),
    ),
    _own("suite", 70, "suite", "tests/", needs=("pytest", "hypothesis", "timm")),
    _own("matrix", 80, "matrix", needs=("timm",)),
    _own("autocast", 60, "autocast", "matrix", needs=("timm",)),
    _own("large", 60, "large", "batch_norm_switches"),
    Stage("tensor-facts", 40, "tensor_facts", True, _TENSOR),
    # It looks at stock PyTorch alone, and at no clock.
    Stage(
        "cause",
        60,
        "cause",
        False,
        tuple(
            f"tests/gpu/{name}.py"
            for name in ("cause", "batch_norm_switches", "distance", "device", "matrix", "record")
        ),
        needs=("timm",),
    ),
    _benchmark(
        "bench_models", 110, "models", "--models test_resnet --batch-sizes 1,2 --seconds 0.05"
    ),
    _benchmark("bench_conv", 50, "conv", "--models resnext50_32x4d --batch-sizes 1 --seconds 0.01"),
    _benchmark("bench_tiles", 50, "tiles"),
    Stage("tensor-speed", 15, "tensor_speed", True, _TENSOR, measures=True),
    _benchmark(
        "bench_batch_norm",
        30,
        "batch_norm",
        "--models resnet34 --batch-sizes 1 --dtypes float32 --seconds 0.01",
    ),
)
