"""The line of the user's or the model's code that made a call."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch

# In the `meta` of a graph module: by the node, the line that it was traced from.
TRACED = "bninv_lines"

# Code in these folders runs a model; it is not the model's.
_LIBRARIES = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(torch.__file__).parent, Path(__file__).resolve().parent.parent)
)


def is_library(file: str) -> bool:
    """Whether a source file belongs to torch, bninv or the interpreter itself."""
    return file.startswith((*_LIBRARIES, "<frozen "))


class Line(NamedTuple):
    """A line of a source file, with the globals of the code that is in it."""

    file: str
    number: int
    names: dict[str, Any]


def calling_line(root: CodeType | None = None) -> Line | None:
    """The innermost line that is in no library's code; None if there is none inside of `root`.

    In a block's program (bninv.fusing) it is the line of the block's own code that made the call.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not root:
        file = frame.f_code.co_filename
        program = frame.f_locals.get("self") if file.startswith("<eval_with_key>") else None
        if program is not None and TRACED in getattr(program, "meta", ()):
            index = program._lineno_map.get(frame.f_lineno - program._prologue_start)
            traced: Line | None = None if index is None else program.meta[TRACED][index]
            if traced is not None:
                return traced
        elif not is_library(file):
            return Line(file, frame.f_lineno, frame.f_globals)
        frame = frame.f_back
    return None
