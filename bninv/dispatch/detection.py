"""torchvision's `batched_nms` in the methods of protected modules: R11 in its place.

It is a function in Python, which chooses by the number of boxes and by the device whether it moves
the boxes of each class apart or goes class by class. Its calls cannot be seen as calls of it. So a
method whose code names it, by itself or in one of torchvision's modules, runs with other globals:
there it is `standing_in`, and everything else what it was. The method and its module stay as they
are, so one that a subclass's method reaches by `super()` runs as it stands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._protection import active
from bninv.dispatch import covered
from bninv.modules.entry import bound
from bninv.operators.adapters import UnfitError, need
from bninv.operators.nms import batched_nms, cast

_NAME = "batched_nms"
_MODULES = ("torchvision.ops.boxes", "torchvision.ops", "torchvision")


def calls_batched_nms(function: Any) -> bool:
    """Whether a method's code names torchvision's function."""
    if not isinstance(function, FunctionType) or _NAME not in function.__code__.co_names:
        return False
    return bool(_replaced(function))


def with_standing_in(stock: type, name: str) -> Callable[..., Any]:
    """What runs a method that the class has at the time of the call, with other globals."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = getattr(stock, name)
        if not isinstance(function, FunctionType):
            return bound(self, stock, name)(*args, **kwargs)
        return _with_globals(function, _replaced(function))(self, *args, **kwargs)

    return run


def standing_in(*args: Any, **kwargs: Any) -> Any:
    """R11 under protection, for what the operator takes; else torchvision's function."""
    tracing = torch.compiler.is_compiling() or _torch.tracing_state() is not None
    if active() is not None and not tracing:
        try:
            return covered.call(_NAME, _own, args, kwargs)
        except UnfitError:
            pass
    return getattr(sys.modules[_MODULES[0]], _NAME)(*args, **kwargs)


def _own(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    boxes, scores = cast(boxes, scores)
    need(boxes.dtype == scores.dtype and idxs.dtype == torch.int64)
    return batched_nms(boxes, scores, idxs, iou_threshold)


class _Module:
    """One of torchvision's modules, with another function in it."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _in_place_of(getattr(self._module, name))


def _in_place_of(value: Any) -> Any:
    own = getattr(sys.modules.get(_MODULES[0]), _NAME, None)
    if own is None:  # there is no torchvision, or one without it
        return value
    if value is own:
        return standing_in
    is_module = isinstance(value, ModuleType) and value.__name__ in _MODULES
    return _Module(value) if is_module else value


def _replaced(function: FunctionType) -> dict[str, Any]:
    """The globals that its code names and that are others now."""
    found = {}
    for name in function.__code__.co_names:
        if name in function.__globals__:
            value = function.__globals__[name]
            instead = _in_place_of(value)
            if instead is not value:
                found[name] = instead
    return found


def _with_globals(function: FunctionType, replaced: dict[str, Any]) -> FunctionType:
    made = FunctionType(
        function.__code__,
        {**function.__globals__, **replaced},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made
