"""Kernels by readable names: conv2d_tile<float, 128x128, points>."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from benchmarks.cuda_kernels import gemm_plan

_TYPES = {"Half": "half", "BFloat16": "bfloat16"}
_EPILOGUES = ("none", "relu", "any")
_GATHERS = ("points", "windows", "elements")  # as csrc/cuda/conv2d.cu's enum
# What `true` and `false` among a kernel's template arguments say.
_FLAGS = {
    "batch_norm_channels_fastest": ("residual", ""),
    "batch_norm_planes": ("residual", ""),
    "conv2d_direct": ("depthwise", "grouped"),
    "group_norm_kernel": ("channels_last", "contiguous"),
    "sum_rows": ("one dimension", "any strides"),
    "sum_segments": ("one dimension", "any strides"),
    "sum_columns": ("one dimension", "any strides"),
    "unary_kernel": ("relu", "any"),
}


def demangle(names: Sequence[str]) -> dict[str, str]:
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True
    )
    return dict(zip(names, done.stdout.splitlines(), strict=True))


def short_name(demangled: str) -> str:
    """`batch_norm_planes<half, 8, residual, relu>`: without namespaces, arguments and types."""
    name = re.sub(r"\(anonymous namespace\)::|\b\w+::", "", demangled).removeprefix("void ")
    name = re.sub(r"\((Epilogue|Gather)\)(\d)", r"\1\2", name).split("(")[0]
    match = re.fullmatch(r"(\w+)<(.*)>", name)
    if match is None:
        return name
    kernel, arguments = match.group(1), match.group(2).split(", ")
    return f"{kernel}<{', '.join(filter(None, _spell(kernel, arguments)))}>"


def _spell(kernel: str, arguments: Sequence[str]) -> list[str]:
    spelled = []
    for i, argument in enumerate(arguments):
        if argument in ("true", "false"):
            spelled.append(_FLAGS[kernel][argument == "false"])
        elif match := re.fullmatch(r"(Epilogue|Gather)(\d)", argument):
            names = {"Epilogue": _EPILOGUES, "Gather": _GATHERS}[match.group(1)]
            spelled.append(names[int(match.group(2))])
        elif kernel == "conv2d_tile" and i == 1:
            spelled.append(gemm_plan.tiles()[int(argument)].name)
        else:
            spelled.append(_TYPES.get(argument, argument))
    return spelled


def is_main(name: str) -> bool:
    """Kernels that must not spill: all but those of float64, of unaligned tensors or any strides,
    and of activations chosen at run time."""
    return not re.search(r"<double|<\w+, 1[,>]|, any>|, any strides>|, elements>", name)


def dynamic_shared(name: str) -> int | None:
    """Bytes of a block of a tiled product. None: others take what their tensor's shape asks for."""
    match = re.fullmatch(r"conv2d_tile<(\w+), (\w+), \w+>", name)
    if match is None:
        return None
    tile = next(t for t in gemm_plan.tiles() if t.name == match.group(2))
    return tile.shared_bytes(match.group(1))
