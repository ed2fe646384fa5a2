"""The command `bninv` in this process, in an empty folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bninv import cli

# Small, quick, and made of convolution, BatchNorm, ReLU, pooling and a linear layer.
TINY = "test_resnet"
FAST = ("--image-size", "32", "--batch-sizes", "1,3")


class Ended(NamedTuple):
    status: Any
    out: str
    err: str


Run = Callable[..., Ended]


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> Run:
    """A function of the command's arguments."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["bninv", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code, *capsys.readouterr())

    return run
