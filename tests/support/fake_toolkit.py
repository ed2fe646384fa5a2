"""A CUDA toolkit whose nvcc is a shell script: it notes its command lines and lets the C++ compiler
make the object.
"""

from __future__ import annotations

from pathlib import Path

from bninv.building import cuda_toolkit
from bninv.building.cuda_toolkit import Toolkit

NVCC = """#!/bin/sh
case "$*" in
  --version) echo "Cuda compilation tools, release 13.0, V$(cat {home}/version)"; exit ;;
  --list-gpu-arch) printf 'compute_%s\\n' 75 80 86 89 90 100 120; exit ;;
esac
echo "$@" >> {home}/commands
env > {home}/environment
if [ -e {home}/complaint ]; then cat {home}/complaint >&2; exit 1; fi
while [ $# -gt 0 ]; do
  case "$1" in
    *.cu) source=$1 ;;
    -o) output=$2; shift ;;
  esac
  shift
done
exec c++ -fPIC -x c++ -c "$source" -o "$output"
"""


def fake_toolkit(home: Path, version: int = 13000, nvcc: bool = True, runtime: bool = True) -> Path:
    home.mkdir(parents=True)
    if nvcc:
        (home / "bin").mkdir()
        (home / "bin" / "nvcc").write_text(NVCC.format(home=home))
        (home / "bin" / "nvcc").chmod(0o755)
        (home / "version").write_text("13.0.88")
    if runtime:
        (home / "include").mkdir()
        (home / "include" / "cuda_runtime.h").touch()
        (home / "include" / "cuda_runtime_api.h").write_text(f"#define CUDART_VERSION  {version}\n")
        (home / "lib").mkdir()
        (home / "lib" / f"libcudart.so.{version // 1000}").touch()
    return home


def read(home: Path) -> Toolkit:
    toolkit = cuda_toolkit.read_toolkit(home)
    assert toolkit is not None
    return toolkit
