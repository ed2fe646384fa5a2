"""A place to build libraries in that hold no operators, which takes well under a second each.

The compiler is a shell script around the real one that keeps a record of what it compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bninv.building import extension, recipe
from tests.support.places import ROOT

REAL_COMPILER = shutil.which(os.environ.get("CXX", "c++")) or "c++"

COMPILER = """#!/bin/sh
for argument in "$@"; do
  case "$argument" in
    --version | -v | -dump*) exec {real} "$@" ;;
    -c) echo "$@" >> {folder}/compiled ;;
  esac
done
if [ -e {folder}/hang ]; then sleep 600; fi
if [ -e {folder}/slow ]; then sleep 1; fi
if [ -e {folder}/complaint ]; then cat {folder}/complaint >&2; exit 1; fi
exec {real} "$@"
"""


class Workshop:
    """A tiny source tree, a cache folder and a recording compiler, all in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.csrc = folder / "csrc"
        self.cache = folder / "cache"
        self.compiler = folder / "g++"  # torch looks at the name
        (self.csrc / "cpu").mkdir(parents=True)
        (self.csrc / "ops").mkdir()
        (self.csrc / "numerics.h").write_text("#pragma once\n#include <cstdint>\n")
        (self.csrc / "cpu" / "probe.cpp").write_text(
            '#include <algorithm>\n#include "../numerics.h"\n'
            "namespace bninv { namespace BNINV_LEVEL { int width() { return BNINV_VEC_WIDTH; }}}\n"
        )
        self.compiler.write_text(COMPILER.format(real=REAL_COMPILER, folder=folder))
        self.compiler.chmod(0o755)

    def load(self) -> Path:
        return extension.load_library(self.csrc, installed=self.folder / "installed")

    def start(self) -> subprocess.Popen[str]:
        """The same in a process of its own, which leads its own process group."""
        script = (
            "from pathlib import Path; from bninv.building import extension\n"
            f"print(extension.load_library(Path({str(self.csrc)!r}), Path('nowhere')))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def compiled(self) -> int:
        """How many files were compiled so far."""
        record = self.folder / "compiled"
        return len(record.read_text().splitlines()) if record.exists() else 0

    def units(self) -> int:
        return len(recipe.wrappers(self.csrc))

    def left_over(self) -> list[str]:
        return sorted(p.name for p in self.cache.iterdir() if p.suffix not in (".lock", ".log"))


def open_workshop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop in `folder`, with the environment that makes builds use it."""
    shop = Workshop(folder)
    monkeypatch.setenv("CXX", str(shop.compiler))
    monkeypatch.setenv("BNINV_CACHE_DIR", str(shop.cache))
    for name in ("BNINV_BUILD", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN"):
        monkeypatch.delenv(name, raising=False)
    return shop
