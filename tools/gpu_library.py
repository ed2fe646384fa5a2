"""`make gpu-library`: what is compiled for a GPU, to be taken there.

    bninv/_C.so                     the operators with CUDA kernels
    build/gpu-library/tensor_facts  the program of `make gpu`'s stages tensor-facts and tensor-speed

    python tools/gpu_library.py [--architectures 9.0]

Compiled here, where no GPU is needed, so that no time on one goes into compiling. Both hold a key
of the sources they were made from and the GPUs they were made for: where either does not fit, bninv
says so and does not use them. The library needs no Python headers and runs under any Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build" / "gpu-library"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--architectures",
        default="9.0",
        metavar="LIST",
        help="compute capabilities, as in TORCH_CUDA_ARCH_LIST (default: 9.0, H100 and H200)",
    )
    chosen = parser.parse_args()
    os.environ |= {
        "BNINV_BUILD": "cuda",
        "TORCH_CUDA_ARCH_LIST": chosen.architectures,
        "BNINV_CACHE_DIR": str(KEPT),
    }
    sys.path.insert(0, str(ROOT))
    from bninv.building import extension, recipe
    from tests.gpu import tensor_program

    place = ROOT / "bninv" / "_C.so"
    # An earlier one must not be what is found.
    nowhere = KEPT / "none"
    try:
        built = extension.load_library(installed=nowhere)
    except recipe.BuildError as error:
        sys.exit(f"bninv: {error}")
    if recipe.embedded_key(built) != recipe.source_key(recipe.source_dir()):
        sys.exit(f"bninv: {built} was not made from these sources: remove it and try again")
    shutil.copy(built, place.with_suffix(".new"))
    place.with_suffix(".new").replace(place)
    size = place.stat().st_size / 2**20
    print(
        f"{place.relative_to(ROOT)}: {size:.0f} MiB, CUDA {recipe.embedded_cuda(place)}, "
        f"sources {recipe.embedded_key(place)}"
    )
    names = chosen.architectures.replace(";", " ").split()
    try:
        tensor_program.compile_to(tensor_program.PLACE, names)
    except tensor_program.NoProgramError as error:
        sys.exit(f"bninv: tensor_facts: {error}")
    print(f"{tensor_program.PLACE.relative_to(ROOT)}: sources {tensor_program.key()}")


if __name__ == "__main__":
    main()
