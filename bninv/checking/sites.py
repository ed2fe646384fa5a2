"""Where in a model's own code an operator was called: the module, the file and the line."""

from __future__ import annotations

import inspect
import linecache
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from types import CodeType
from typing import Any, NamedTuple

import torch

from bninv.dispatch import call_site
from bninv.dispatch.call_site import is_library


class Place(NamedTuple):
    """One call: the innermost module that ran, and the line of the model's code it came from."""

    module: str
    line: str
    code: str


@dataclass
class Site:
    """A place that operators were called from, and how many of the calls counted came from there.

    `module` is a qualified name, empty for the model's own forward. `line` is "file.py:52", the
    file named from its package on, and `code` that line's text; both are empty where no line of
    the model's is involved, as in an `nn.Sequential` of stock layers.
    """

    module: str
    line: str
    code: str
    calls: int


def count_sites(places: Iterable[Place]) -> list[Site]:
    """Each distinct place once, in order of first occurrence."""
    return [Site(*place, calls) for place, calls in Counter(places).items()]


def calling_line(root: CodeType) -> tuple[str, str]:
    """The innermost line, with its text, that is neither torch's nor bninv's code.

    Args:
        root: the code of the function that runs the model. Frames outside of it are whoever asked
            for the check, and no part of the model.
    """
    line = call_site.calling_line(root)
    return ("", "") if line is None else _described(*line)


def forward_line(module: torch.nn.Module) -> tuple[str, str] | None:
    """The first line of the forward of a module's own class; None if that is torch's or bninv's."""
    forward: Any = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    if code is None or is_library(code.co_filename):
        return None
    return _described(code.co_filename, code.co_firstlineno, forward.__globals__)


def _described(file: str, number: int, names: dict[str, Any]) -> tuple[str, str]:
    text = linecache.getline(file, number, names).strip()
    return f"{_from_package(file, str(names.get('__name__', '')))}:{number}", text


def _from_package(file: str, module: str) -> str:
    """`file` from its top package on: timm/layers/conv2d_same.py; no machine's own folders."""
    path = PurePath(file)
    parts = module.split(".")
    if path.name == "__init__.py":
        parts.append("__init__")
    tail = path.parts[-len(parts) :]
    fits = [*tail[:-1], path.stem] == parts
    return "/".join(tail) if fits else path.name
