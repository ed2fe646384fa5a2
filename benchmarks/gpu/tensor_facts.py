"""Asks a GPU's tensor cores whether they compute what csrc/tensor_block.h says.

    python benchmarks/gpu/tensor_facts.py FOLDER [--program build/tensor_facts]

runs tensor_facts.cu's program, part by part, recomputes samples with NumPy and writes into FOLDER

    tensor_facts.json   everything
    tensor_facts.md     the same in short
    tensor_vectors.npz  tiles of operands and what the GPU made of them, for tests

Needs NumPy and the compiled program:

    nvcc -O2 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -cudart static \\
        -o build/tensor_facts benchmarks/gpu/tensor_facts.cu

Exits with 1 if a part could not run. What the GPU disagrees with is in the report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import reference_tensor as reference  # noqa: E402

# Seconds that a part may take. The last ones use instructions that fault if misused: a process each.
PARTS = {"mma": 90, "speed": 30, "wgmma": 60, "wgmma_speed": 30}
ROWS, COLUMNS = 16, 8
VECTORS_FROM = {"f16": "m16n8k16_f16", "bf16": "m16n8k16_bf16", "tf32": "m16n8k8_tf32"}
VECTOR_TILES, VECTOR_BYTES = 80, 395_000
SHARED_BY = 4  # tiles with the same B

Json = dict[str, Any]
Bits = NDArray[np.uint32]


def run_part(program: Path, part: str, folder: Path, limit: float) -> Json:
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [str(program), part, str(folder)], capture_output=True, text=True, timeout=limit
        )
        status, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or b""
        said = output.decode() if isinstance(output, bytes) else output
        status, said = -1, said + f"\nstopped after {limit} s"
    except OSError as error:
        status, said = -1, str(error)
    seconds = round(time.perf_counter() - start, 2)
    result: Json = {"status": status, "seconds": seconds}
    path = folder / f"{part}.json"
    if path.exists():
        text = path.read_text()
        try:
            result["report"] = json.loads(text)
        except ValueError:  # the part stopped on its way
            result["unfinished"] = text
    if status != 0:
        result["said"] = said[-4000:]
    print(f"{part}: status {status}, {seconds} s", said if status != 0 else "", flush=True)
    return result


class Samples:
    """Tiles of one instruction's category: A, B, C, what the GPU gave and what the model gave."""

    def __init__(self, words: Bits, tiles: int, k: int) -> None:
        shapes = [(ROWS, k), (k, COLUMNS), *[(ROWS, COLUMNS)] * 3]
        parts, at = [], 0
        for shape in shapes:
            size = tiles * shape[0] * shape[1]
            parts.append(words[at : at + size].reshape(tiles, *shape))
            at += size
        self.a, self.b, self.c, self.d, self.model = parts

    def by_numpy(self, dtype: str) -> reference.F32:
        left = self.a[:, :, None, :]
        right = self.b.transpose(0, 2, 1)[:, None]
        return reference.multiply_add(dtype, left, right, self.c.view(np.float32), reference.H)


def dtype_of(instruction: str) -> str:
    return "bf16" if "bf16" in instruction else "f16" if "f16" in instruction else "tf32"


def read_samples(folder: Path, instruction: str, facts: Json) -> Iterator[tuple[str, Samples]]:
    path = folder / f"{instruction}.bin"
    if not path.exists():
        return
    words = np.fromfile(path, np.uint32)
    tiles, k = facts["sample_tiles"], facts["k"]
    each = tiles * (ROWS * k + k * COLUMNS + 3 * ROWS * COLUMNS)
    for i, category in enumerate(facts["categories"]):
        part = words[i * each : (i + 1) * each]
        if part.size == each:
            yield category, Samples(part, tiles, k)


def check_with_numpy(folder: Path, report: Json) -> None:
    for instruction, facts in report["instructions"].items():
        dtype = dtype_of(instruction)
        for category, samples in read_samples(folder, instruction, facts):
            got = samples.by_numpy(dtype)
            facts["categories"][category]["numpy"] = {
                "outputs": got.size,
                "model_differs": int((~reference.same(got, samples.model.view(np.float32))).sum()),
                "wrong": int((~reference.same(got, samples.d.view(np.float32))).sum()),
            }


def write_vectors(folder: Path, report: Json) -> int:
    """About 10,000 results a format from all categories; fewer where the file would grow too large."""
    found: dict[str, list[Samples]] = {}
    for dtype, instruction in VECTORS_FROM.items():
        facts = report["instructions"].get(instruction)
        if facts is None or not facts.get("layout"):
            return 0
        found[dtype] = [s for name, s in read_samples(folder, instruction, facts)]
    path = folder / "tensor_vectors.npz"
    for tiles, step in ((VECTOR_TILES, SHARED_BY), (VECTOR_TILES, 1), (79, 1), (70, 1), (60, 1)):
        arrays = {}
        for dtype, categories in found.items():
            # In turn from every category, so that each has its share.
            picks = [(i % len(categories), i // len(categories) * step) for i in range(tiles)]
            for name in "abcd":
                chosen = np.stack([getattr(categories[c], name)[t] for c, t in sorted(picks)])
                small = name in "ab" and dtype != "tf32"
                arrays[f"{dtype}_{name}"] = chosen.astype(np.uint16) if small else chosen
        np.savez_compressed(path, **arrays)
        if path.stat().st_size <= VECTOR_BYTES:
            break
    print(f"{path.name}: {path.stat().st_size} bytes, {tiles * ROWS * COLUMNS} results a format")
    return tiles * ROWS * COLUMNS


def remove_samples(folder: Path, report: Json) -> None:
    """Samples are large, and of use where something is wrong only."""
    for instruction, facts in report.get("instructions", {}).items():
        if not any(each["numpy"]["wrong"] for each in facts["categories"].values()):
            (folder / f"{instruction}.bin").unlink(missing_ok=True)


# ---- The short form ------------------------------------------------------------------------------


def table(titles: list[str], rows: list[list[object]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def share(pairs: Json | None) -> str:
    if not pairs or not pairs["of"]:
        return "-"
    if not pairs["differ"]:
        return "0"
    return f"{pairs['differ']} ({100 * pairs['differ'] / pairs['of']:.3g} %)"


def describe(instruction: str, facts: Json) -> str:
    if not facts.get("layout"):
        return f"### {instruction}\n\nSmall integers are wrong already: the layout is, no statement."
    titles = ["category", "outputs", "wrong", "sign of zero", "host", "NumPy", "moved", "permuted"]
    titles += ["in halves", "segments", "no add first", "against mma.sync"]
    keys = ["moved", "permuted", "in_halves", "segments", "segments_scale_d_0", "against_mma_sync"]
    rows: list[list[object]] = []
    for category, each in facts["categories"].items():
        host, numpy = each["host"], each.get("numpy", {"wrong": "-", "model_differs": "-"})
        rows.append(
            [
                category,
                each["outputs"],
                each["wrong"],
                each["wrong_sign_of_zero"],
                f"{host['wrong']}, {host['host_and_device_model_differ']}",
                f"{numpy['wrong']}, {numpy['model_differs']}",
                *[share(each.get(key)) for key in keys],
            ]
        )
    used = [
        i for i in range(len(titles)) if i < 6 or any(row[i] != "-" for row in rows)
    ]
    text = table([titles[i] for i in used], [[row[i] for i in used] for row in rows])
    return f"### {instruction}\n\n{text}\n\n{describe_rules(facts)}"


def describe_rules(facts: Json) -> str:
    """Wrong results of every other rule, all categories together, and the one that tells most."""
    categories = {
        name: each for name, each in facts["categories"].items() if name != "integers"
    }
    if not categories:
        return ""
    names = next(iter(categories.values()))["rules_wrong"]
    fits, fails = [], []
    for rule in names:
        wrong = {name: each["rules_wrong"][rule] for name, each in categories.items()}
        total, most = sum(wrong.values()), max(wrong, key=lambda name: wrong[name])
        if total:
            fails.append((total, f"{rule} {total} ({most} {wrong[most]})"))
        else:
            fits.append(rule)
    if not any(each["rules_of"] for each in categories.values()):
        return "Other rules: not asked, since the model is right."
    worst = "; ".join(text for _, text in sorted(fails))
    return f"Rules that fit: {', '.join(fits) or 'none'}.\n\nRules that don't: {worst or 'none'}."


def describe_zeros(report: Json) -> str:
    found: dict[str, dict[str, list[int]]] = {}
    for instruction, facts in report["instructions"].items():
        for each in facts["categories"].values():
            for kind, seen in each["zeros"].items():
                counts = found.setdefault(kind, {}).setdefault(instruction, [0, 0, 0])
                for i, sign in enumerate(("plus", "minus", "other")):
                    counts[i] += seen[sign]
    rows: list[list[object]] = [
        [kind, instruction, *counts]
        for kind, instructions in found.items()
        for instruction, counts in instructions.items()
    ]
    return table(["the model's zero", "instruction", "+0", "-0", "not zero"], rows)


def describe_nan(report: Json) -> str:
    rows: list[list[object]] = []
    for instruction, facts in report["instructions"].items():
        all_of = [each["nan"] for each in facts["categories"].values()]
        keys = ("expected", "missed", "spurious", "other_than_7fffffff")
        patterns = sorted({f"{x:08x}" for nan in all_of for x in nan["patterns"]})
        rows.append(
            [instruction, *[sum(nan[key] for nan in all_of) for key in keys], " ".join(patterns)]
        )
    return table(["instruction", "NaN", "missed", "spurious", "not 7fffffff", "patterns"], rows)


def describe_cases(report: Json) -> str:
    lines = []
    for instruction, facts in report["instructions"].items():
        for category, each in facts["categories"].items():
            for title, key in (("wrong", "cases"), ("sign of zero", "zero_cases")):
                for case in each[key][:5]:
                    lines.append(
                        f"- {instruction}, {category}, {title}: a {case['a']}; b {case['b']}; "
                        f"c {case['c']}; GPU {case['hardware']}, model {case['model']}"
                    )
    return "\n".join(lines[:60])


def markdown(facts: Json) -> str:
    parts = facts["parts"]
    lines = ["# Tensor cores against the model", ""]
    for name, part in parts.items():
        lines.append(f"- {name}: status {part['status']}, {part['seconds']} s")
        if part["status"] != 0:
            lines.append(f"  - {part.get('said', '')[-500:]!r}")
    lines += ["", "Columns host and NumPy: wrong results, then where their model differs.", ""]
    for name in ("mma", "wgmma"):
        report = parts.get(name, {}).get("report")
        if report is None:
            continue
        if "device" in report:
            lines += [f"`{report['device']}`", ""]
        lines += [f"## {name}", ""]
        for instruction, each in report["instructions"].items():
            lines += [describe(instruction, each), ""]
        lines += ["### Zeros", "", describe_zeros(report), ""]
        lines += ["### NaN", "", describe_nan(report), ""]
        cases = describe_cases(report)
        if cases:
            lines += ["### Cases", "", cases, ""]
    rows: list[list[object]] = []
    for name in ("speed", "wgmma_speed"):
        report = parts.get(name, {}).get("report", {})
        for instruction, each in report.get("tflops", {}).items():
            by = ", ".join(
                f"{key} {value:.0f}"
                for key, value in each.items()
                if "warp" in key and isinstance(value, (int, float))
            )
            checked = share(each.get("against_model"))
            rows.append(
                [instruction, f"{each['best']:.0f}", f"{each['sustained']:.0f}", by, checked]
            )
    if rows:
        titles = ["instruction", "best TFLOP/s", "for 0.25 s", "by warps of an SM", "wrong"]
        lines += ["## Throughput out of registers or shared memory", "", table(titles, rows), ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Tensor cores against the model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "tensor_facts")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # a copy may have lost the permission
        arguments.program.chmod(0o755)
    facts: Json = {"parts": {}}
    for part in arguments.parts:
        facts["parts"][part] = run_part(arguments.program, part, folder, PARTS[part])
        report = facts["parts"][part].get("report")
        try:
            if report is not None and part in ("mma", "wgmma"):
                check_with_numpy(folder, report)
            if report is not None and part == "mma":
                facts["vectors_of_a_format"] = write_vectors(folder, report)
            if report is not None:
                remove_samples(folder, report)
        except Exception as error:  # the GPU's part of the report is worth more than this one
            facts["parts"][part]["numpy_failed"] = repr(error)
            print(f"{part}: NumPy's check failed: {error!r}", flush=True)
        # After every part: a later one may not end.
        (folder / "tensor_facts.json").write_text(json.dumps(facts, indent=1) + "\n")
        try:
            text = markdown(facts)
        except Exception as error:
            text = f"no short form: {error!r}\n"
        (folder / "tensor_facts.md").write_text(text)
    print((folder / "tensor_facts.md").read_text())
    failed = any(part["status"] != 0 or "numpy_failed" in part for part in facts["parts"].values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
