"""The line of the user's or the model's code that made a call."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

# Code in these folders runs a model; it is not the model's.
_LIBRARIES = tuple(
    f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).resolve().parent)
)


def is_library(file: str) -> bool:
    """Whether a source file belongs to torch, bninv or the interpreter itself."""
    return file.startswith((*_LIBRARIES, "<frozen "))


def calling_frame(root: CodeType | None = None) -> FrameType | None:
    """The innermost frame that is in no library's code; None if there is none inside of `root`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not root:
        if not is_library(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None
