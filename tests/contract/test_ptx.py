"""What nvcc makes of the CUDA kernels, read from its PTX: every operation rounds once, by itself.

PTX's `add.f32` and `mul.f32` round to nearest too, but leave ptxas free to fuse the two, and so
would the driver be that compiles a wheel's PTX for a later GPU; `add.rn.f32` and `mul.rn.f32` do
not (PTX ISA, "Floating Point Instructions: add"). Under --fmad=false nvcc writes `.rn` everywhere,
and that is asserted here. A fused multiply-add looks the same whether it was written or not, so the
kernels are compiled once more with BNINV_MARK_FMA, under which csrc/numerics.h marks its own.

No GPU is needed. Each check is also shown code that it has to refuse.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.cuda_kernels import sass
from bninv.building.cuda_toolkit import Toolkit, find_toolkits, toolkit_candidates
from bninv.building.nvcc import nvcc_command, nvcc_environment
from bninv.building.recipe import source_dir

SOURCES = sorted(source_dir().glob("cuda/*.cu"))
LOWEST, HIGHEST = "7.5", "9.0"

# Fusing takes no notice of the architecture, so the marked form is compiled for one alone.
VARIANTS = {LOWEST: (LOWEST, ()), HIGHEST: (HIGHEST, ()), "marked": (HIGHEST, ("BNINV_MARK_FMA",))}

PROBE = """
#include "cuda/device.cuh"
extern "C" __global__ void probe(float* f, double* d, float a, float b, float c,
                                 double x, double y, double z) {
  f[0] = a * b;
  f[1] = c * b + a;
  f[2] = bninv::cuda::fma(a, b, c);
  f[3] = bninv::cuda::fma(c, b, bninv::cuda::fma(a, a, b)) - c;
  d[0] = x * y;
  d[1] = z * y + x;
  d[2] = bninv::cuda::fma(x, y, z);
#if defined(DIVIDE)
  f[4] = a / b;
  f[5] = sqrtf(c);
  d[4] = x / y;
#endif
}
"""
# ptxas expands divisions and square roots into much of everything: DIVIDE is for PTX alone.
WRITTEN = {"FMUL": 2, "FADD": 2, "FFMA": 3, "DMUL": 2, "DADD": 1, "DFMA": 1}


# ---- What is allowed -----------------------------------------------------------------------------

# rcp.rn is how nvcc writes 1 / x; it is correctly rounded, so it is that division.
ARITHMETIC = re.compile(
    r"(add|sub|mul|fma|div|rcp|sqrt)\.rn\.f(32|64)"
    # R9's, with sums in binary32.
    r"|mma\.sync\.aligned\.m16n8k(16\.row\.col\.f32\.(f16\.f16|bf16\.bf16)|8\.row\.col\.f32\.tf32\.tf32)\.f32"
)
# Exact: moves, comparisons, choices, signs, widening. Narrowing rounds once, and so does an integer
# (a sum's number of terms) on its way to the arithmetic type. A place is cut to an index (R8).
# A quotient becomes a whole number: exact as a number of its own type. `x > 0 ? x : 0` is a
# maximum, which gives 0 for NaN too.
OTHERS = re.compile(
    r"(mov|ld|st|selp|setp|neg|abs|copysign|max)\.[a-z0-9_.:]+"
    r"|cvt\.(f32\.b?f16|f64\.f32|rn\.(f32\.f64|b?f16(x2)?\.f32|f(32|64)\.s64)"
    r"|rzi\.s64\.f(32|64)|r[mnz]i\.(f32\.f32|f64\.f64))"
)


def statements(ptx: str) -> Iterator[tuple[str, str]]:
    """The opcode and the whole line of every instruction, inline assembly included."""
    for line in ptx.splitlines():
        for text in re.split(r"[;{}]", line.partition("//")[0]):
            match = re.match(r"\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)", text)
            if match:
                yield match.group(1), line.strip()


def forbidden(ptx: str) -> list[str]:
    """Lines of floating-point instructions that round otherwise than the contract, or might."""
    return [
        line
        for opcode, line in statements(ptx)
        if re.search(r"\.(b?f16|b?f16x2|f32|f64)\b", opcode)
        and (
            re.search(r"\.(ftz|approx|full|sat)\b", opcode)
            or not (ARITHMETIC.fullmatch(opcode) or OTHERS.fullmatch(opcode))
        )
    ]


def unwritten(marked_ptx: str) -> list[str]:
    """Lines with a fused multiply-add that csrc/numerics.h did not write."""
    return [
        line
        for opcode, line in statements(marked_ptx)
        if re.match(r"(fma|mad)\..*f(16|32|64)", opcode) and not line.endswith("// written")
    ]


# ---- Compiling -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toolkit() -> Toolkit:
    found = find_toolkits(toolkit_candidates())
    if not found:
        pytest.skip("no CUDA toolkit: pip install 'bninv[nvcc]'")
    return found[0]


def compile_text(
    toolkit: Toolkit,
    source: Path,
    output: Path,
    architecture: str,
    defines: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> str:
    """PTX, or SASS if `output` is a cubin; `flags` take the place of the project's."""
    kind = output.suffix[1:]
    command = nvcc_command(toolkit, source, output, [architecture], kind=kind, defines=defines)
    if flags:
        command = [c for c in command if not re.match("--fmad|-ftz|-prec", c)]
    environment = nvcc_environment(output.parent, os.environ)
    done = subprocess.run(
        [*command, *flags], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return output.read_text() if kind == "ptx" else sass.disassemble(output, toolkit.home)


@pytest.fixture(scope="module")
def kernels(toolkit: Toolkit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The PTX of all kernels by variant."""
    folder = tmp_path_factory.mktemp("ptx")

    def build(job: tuple[str, Path]) -> str:
        variant, source = job
        architecture, defines = VARIANTS[variant]
        output = folder / f"{source.stem}_{variant}.ptx"
        return compile_text(toolkit, source, output, architecture, defines)

    jobs = [(variant, source) for variant in VARIANTS for source in SOURCES]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        texts = list(pool.map(build, jobs))
    return {
        variant: "\n".join(t for (v, _), t in zip(jobs, texts, strict=True) if v == variant)
        for variant in VARIANTS
    }


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    path = tmp_path / "probe.cu"
    path.write_text(PROBE)
    return path


# ---- The kernels ---------------------------------------------------------------------------------


@pytest.mark.exhaustive  # all kernels are compiled three times: two minutes
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_operation_rounds_to_nearest_by_itself(kernels: dict[str, str], variant: str) -> None:
    opcodes = Counter(opcode for opcode, _ in statements(kernels[variant]))
    assert opcodes["fma.rn.f32"] and opcodes["div.rn.f32"] and opcodes["sqrt.rn.f64"]
    assert forbidden(kernels[variant]) == []


@pytest.mark.exhaustive
def test_no_fma_but_those_written(kernels: dict[str, str]) -> None:
    assert kernels["marked"].count("// written") > 100
    assert unwritten(kernels["marked"]) == []


# ---- ptxas ---------------------------------------------------------------------------------------


def operations(text: str) -> Counter[str]:
    """Of one kernel, without modifiers."""
    (kernel,) = sass.parse(text)
    opcodes = (opcode.split(".")[0] for opcode in kernel.instructions)
    return Counter(o for o in opcodes if re.match(r"[FDH](ADD|MUL|FMA)", o))


@pytest.mark.parametrize("architecture", [LOWEST, HIGHEST])
def test_machine_code_has_the_operations_written(
    toolkit: Toolkit, probe: Path, tmp_path: Path, architecture: str
) -> None:
    text = compile_text(toolkit, probe, tmp_path / "probe.cubin", architecture)
    assert operations(text) == WRITTEN


def test_ptxas_fuses_what_does_not_say_rn(toolkit: Toolkit, probe: Path, tmp_path: Path) -> None:
    """Why `.rn` is asserted: the same PTX without it becomes other operations."""
    ptx = compile_text(toolkit, probe, tmp_path / "probe.ptx", HIGHEST)
    plain = re.sub(r"\b(add|sub|mul)\.rn\.", r"\1.", ptx)
    assert len(forbidden(plain)) == 7
    found = []
    for name, text in (("rn", ptx), ("plain", plain)):
        path = tmp_path / f"{name}.ptx"
        path.write_text(text)
        cubin = path.with_suffix(".cubin")
        command = [toolkit.nvcc, "-cubin", "-arch=sm_90", path, "-o", cubin]
        subprocess.run(command, check=True, capture_output=True)
        found.append(operations(sass.disassemble(cubin, toolkit.home)))
    assert found[0] == WRITTEN
    assert found[1]["FFMA"] > WRITTEN["FFMA"] and found[1]["DFMA"] > WRITTEN["DFMA"]


# ---- That the checks can fail --------------------------------------------------------------------


def test_contraction_is_caught(toolkit: Toolkit, probe: Path, tmp_path: Path) -> None:
    output = tmp_path / "probe.ptx"
    marked = ("BNINV_MARK_FMA",)
    good = compile_text(toolkit, probe, output, HIGHEST, marked)
    assert unwritten(good) == [] and good.count("// written") == 4
    fused = compile_text(toolkit, probe, output, HIGHEST, marked, ["--fmad=true"])
    assert len(unwritten(fused)) == 2  # c * b + a and z * y + x


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("--use_fast_math", r"\.approx"),
        ("-ftz=true", r"\.ftz"),
        ("-prec-div=false", r"div\.(full|approx)"),
        ("-prec-sqrt=false", r"sqrt\.approx"),
        ("--fmad=true", r"(mul|add|sub)\.f(32|64)"),
    ],
)
def test_other_rounding_is_caught(
    toolkit: Toolkit, probe: Path, tmp_path: Path, flag: str, part: str
) -> None:
    output = tmp_path / "probe.ptx"
    defines = ["DIVIDE"]
    assert forbidden(compile_text(toolkit, probe, output, HIGHEST, defines)) == []
    found = forbidden(compile_text(toolkit, probe, output, HIGHEST, defines, [flag]))
    assert any(re.search(part, line) for line in found)
