"""Check the elementwise functions of csrc/functions.h over all 2^32 binary32 inputs.

For each function: the greatest error in ulp against a binary64 reference and where it occurs, and
whether the vector and the scalar instantiation give the same bits. A run over all inputs is written
to benchmarks/results/exhaustive_functions.json (docs/functions.md quotes it); a subsample is only
printed. The exit status is 1 if a function exceeds its limit or two instantiations differ.

    python -m benchmarks.exhaustive_functions                              # everything: long
    python -m benchmarks.exhaustive_functions --functions exp,gelu
    python -m benchmarks.exhaustive_functions --stride 1009                # seconds
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile

from benchmarks.common.places import RESULTS, ROOT

SOURCE = ROOT / "benchmarks" / "exhaustive_functions.cpp"
RESULT = RESULTS / "exhaustive_functions.json"

FUNCTIONS = (
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "logsigmoid", "softplus", "elu",
    "sin", "cos", "tan", "atan", "sinh", "cosh",
    "tanh", "erf", "sigmoid", "silu", "mish", "gelu", "gelu_tanh",
    "relu", "relu6", "hardsigmoid", "hardswish", "leaky_relu",
)  # fmt: skip
LIMIT_ULP = 2.0

# Without the vectorizer the scalar instantiation stays scalar, and is compared as such.
FLAGS = ["-std=c++20", "-O3", "-ffp-contract=off", "-fno-tree-vectorize", "-pthread"]
LEVELS = {
    1: ["-mfma", "-DBNINV_LEVEL=scalar"],
    8: ["-mavx2", "-mfma", "-DBNINV_LEVEL=avx2"],
    16: ["-mavx512f", "-mfma", "-DBNINV_LEVEL=avx512"],
}


def flags(width: int) -> list[str]:
    return [*FLAGS, *LEVELS[width], f"-DBNINV_VEC_WIDTH={width}"]


def build(compiler: str, width: int, folder: str) -> str:
    program = os.path.join(folder, "exhaustive_functions")
    subprocess.run(
        [compiler, *flags(width), f"-I{ROOT / 'csrc'}", str(SOURCE), "-o", program], check=True
    )
    return program


def run(program: str, name: str, stride: int, threads: int) -> dict:
    command = [program, name, str(stride), str(threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def passes(row: dict) -> bool:
    wrong = row["nan_mismatches"] + row["zero_sign_mismatches"] + row["vector_scalar_mismatches"]
    return row["max_ulp"] <= LIMIT_ULP and wrong == 0


def compiler_version(compiler: str) -> str:
    lines = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True)
    return lines.stdout.splitlines()[0]


def write(rows: list[dict], compiler: str, width: int) -> None:
    """Put `rows` into the results; those of functions not run now are kept."""
    kept = json.loads(RESULT.read_text())["functions"] if RESULT.exists() else []
    by_name = {row["function"]: row for row in (*kept, *rows)}
    content = {
        "reference": f"binary64, {' '.join(platform.libc_ver())}",
        "compiler": compiler_version(compiler),
        "flags": " ".join(flags(width)),
        "limit_ulp": LIMIT_ULP,
        "functions": [by_name[name] for name in FUNCTIONS if name in by_name],
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", default=",".join(FUNCTIONS), help="comma-separated names")
    parser.add_argument("--stride", type=int, default=1, help="every how many-th bit pattern")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--width", type=int, choices=LEVELS, default=8, help="floats in a vector")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    options = parser.parse_args()
    names = options.functions.split(",")
    unknown = sorted(set(names) - set(FUNCTIONS))
    if unknown:
        parser.error(f"--functions: no {', '.join(unknown)}; there are {', '.join(FUNCTIONS)}")
    if options.stride < 1 or options.threads < 1:
        parser.error("--stride and --threads are at least 1")

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = build(options.compiler, options.width, folder)
        print(f"{'function':12} {'inputs':>11} {'max ulp':>8}  at            correctly rounded")
        for name in names:
            row = run(program, name, options.stride, options.threads)
            rows.append(row)
            mark = "" if passes(row) else "  FAILS"
            print(
                f"{name:12} {row['inputs']:11d} {row['max_ulp']:8.4f}  {row['worst_input']:>13} "
                f"{row['correctly_rounded']:9.4%}{mark}",
                flush=True,
            )
            if options.stride == 1:
                write([row], options.compiler, options.width)
    return 0 if all(map(passes, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
