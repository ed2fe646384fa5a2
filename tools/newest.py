"""Runs a fast set of tests with the newest PyTorch that there is, in an environment of its own.

Makes .venv-newest with the interpreter that runs this file, installs the newest torch, torchvision
and timm into it, and what else the tests need, and runs `CHOSEN`: what a new PyTorch breaks first,
which is importing, patching, compiling, exporting, autocast and what is caught. Compiling the
operators for that torch takes some minutes the first time. `tools/matrix.py` runs everything.

    python tools/newest.py                 install or bring up to date, and run
    python tools/newest.py --keep          run with what is installed
    python tools/newest.py -- -k compile   arguments for pytest

Uses the standard library alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-newest"
PYTHON = VENV / "bin" / "python"
# A pin of the tests' own environment would keep the newest out.
NEWEST = ("torch", "torchvision", "timm")
CHOSEN = (
    "tests/patching/test_patch.py",
    "tests/patching/test_conversions.py",
    "tests/checking/test_structures.py",
    "tests/contract/test_errors.py",
    "tests/dispatch/test_dispatch.py",
    "tests/fusing/test_fusing.py",
    "tests/autocast/test_lists.py",
    "tests/autocast/test_modules.py",
    "tests/autocast/test_operators.py::test_compiled_model",
    "tests/contract/test_compile.py::test_exported_program_reloads_in_a_fresh_process",
    "tests/fusing/test_compiling.py::test_networks",
)


def requirements() -> list[str]:
    lines = (ROOT / "requirements-test.txt").read_text().splitlines()
    wanted = [line.split("#")[0].strip() for line in lines]
    return [*NEWEST, *(line for line in wanted if line and line.split("=")[0] not in NEWEST)]


def install() -> None:
    """The newest of NEWEST, whatever is installed; of the rest, what is pinned."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", *requirements()], check=True)


def main() -> int:
    """Pytest's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="install nothing")
    parser.add_argument("rest", nargs="*", metavar="-- ARGS", help="arguments for pytest")
    arguments = parser.parse_args()
    if not arguments.keep:
        install()
    elif not PYTHON.exists():
        sys.exit(f"bninv: there is no {VENV.name} yet: run this without --keep first")
    code = "import torch, timm; print(f'bninv: torch {torch.__version__}, timm {timm.__version__}')"
    subprocess.run([str(PYTHON), "-c", code], check=True)
    command = [str(PYTHON), "-m", "pytest", "-q", "-m", "not exhaustive", *CHOSEN, *arguments.rest]
    return subprocess.run(command, check=False, cwd=ROOT, env=os.environ).returncode


if __name__ == "__main__":
    sys.exit(main())
