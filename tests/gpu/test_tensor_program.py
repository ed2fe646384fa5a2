"""The program that asks tensor cores: when it is used, and what is made of what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gpu import tensor, tensor_program
from tests.support import tensor_cases

SCRIPT = """#!/bin/sh
if [ "$1" = about ]; then echo '{"key": "KEY", "architectures": "8.0 9.0"}'; exit; fi
if [ "$1" = facts ]; then cp SAMPLES "$3"; fi
echo 'ROW'
"""


def program(folder: Path, key: str | None = None, row: Any = None) -> Path:
    path = folder / "tensor_facts"
    text = SCRIPT.replace("KEY", key or tensor_program.key())
    path.write_text(
        text.replace("SAMPLES", str(folder / "tiles")).replace("ROW", json.dumps(row or {}))
    )
    return path  # without the right to run it: problem() gives it that


def test_a_program_of_these_sources_is_used(tmp_path: Path) -> None:
    path = program(tmp_path)
    assert tensor_program.problem(path, "8.6") == ""
    assert "compute capability 8.0, 9.0" in tensor_program.problem(path, "10.0")
    path = program(tmp_path, "another")
    assert tensor_program.problem(path, "9.0") == "it was compiled from other sources"
    assert tensor_program.problem(tmp_path / "nothing", "9.0") == "there is none"


def test_without_program_and_compiler_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_program, "PLACE", program(tmp_path, "another"))
    monkeypatch.setattr(tensor_program.torch.version, "cuda", None)
    with pytest.raises(tensor_program.NoProgramError, match="make gpu-library.*other sources"):
        tensor_program.find("9.0")
    with pytest.raises(tensor_program.NoProgramError, match=r"begin with compute capability 8\.0"):
        tensor_program.find("7.5")

    def find() -> Path:
        return tensor_program.find("9.0")

    row = tensor.facts(find, time.monotonic() + 60, "m16n8k16_bf16")
    assert row["ok"] and "needs nvcc" in row["left_out"]


def none(of: int = 128) -> dict[str, int]:
    return {"of": of, "differ": 0}


def test_a_row_is_what_the_program_says_and_numpy(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    a, b, c = tensor_cases.gaps("bf16", draw, 16)
    a, b, c = a[:16].reshape(1, 16, 16), b[:8].T.reshape(1, 16, 8), c[:128]
    left, right = tensor_cases.dots(a, b)
    rule = tensor.reference.H
    d = tensor.reference.multiply_add("bf16", left, right, c.view(np.float32), rule)
    words = np.concatenate([x.reshape(-1).view(np.uint32) for x in (a, b.copy(), c, d)])
    row = {"class": "H", "k": 16, "sample_tiles": 1, "categories": {"integers": 0, "gap": 0}}
    row |= {"model": none(), "moved": none(), "rules": {"one bit more": 0, "class A": 31}}

    def facts(**changes: Any) -> dict[str, Any]:
        path = program(tmp_path, row={**row, **changes})
        path.chmod(0o755)
        return tensor.facts(lambda: path, time.monotonic() + 60, "m16n8k16_bf16")

    words.tofile(tmp_path / "tiles")
    found = facts()
    assert found["ok"] and found["numpy"] == {"of": 128, "differ": 0}
    found = facts(moved={"of": 9, "differ": 2})
    assert not found["ok"] and found["first"] == "2 of 9 are not itself elsewhere in a tile"
    found = facts(model={"of": 9, "differ": 4}, categories={"integers": 0, "gap": 4})
    assert "wrong in gap 4; wrong by other rules: one bit more 0" in found["first"]
    found = facts(model={"of": 9, "differ": 4}, categories={"integers": 4})
    assert "small integers are wrong" in found["first"]
    words[-1] ^= 1
    words.tofile(tmp_path / "tiles")
    assert facts()["first"] == "1 of 128 are not NumPy"


def test_a_program_that_fails_or_takes_too_long_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "tensor_facts"
    path.write_text("#!/bin/sh\necho 'an illegal instruction' >&2; exit 1\n")
    path.chmod(0o755)
    with pytest.raises(RuntimeError, match="exit status 1: an illegal instruction"):
        tensor.call(path, time.monotonic() + 60, "speed", "m16n8k16_bf16")
    path.write_text("#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(TimeoutError):
        tensor.call(path, time.monotonic(), "speed", "m16n8k16_bf16")
