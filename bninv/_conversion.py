"""Tools that turn a model into another program, and cannot turn a patched one: what to do instead.

They know PyTorch's operators and classes, not bninv's. Each is met where it calls bninv's own code,
so nothing of PyTorch's is changed.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NoReturn

import torch

STOCK_MODEL = "bninv.unpatch(model) gives the stock model, which can be"


class ConversionError(RuntimeError):
    """A tool was given a patched model, or a call of bninv's, that it cannot convert."""


def is_onnx_exporting() -> bool:
    """Whether torch.onnx.export is running. Imports nothing: torch.onnx alone takes 0.2 s."""
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def refuse_onnx(operator: str) -> NoReturn:
    """Say that an operator of bninv's cannot be exported."""
    raise ConversionError(
        f"bninv.{operator} has no ONNX form: no ONNX operator promises its bits. {STOCK_MODEL} "
        "exported (copy.deepcopy(model) first, to keep the patched one); where the code itself "
        "calls bninv.functional, call torch.nn.functional instead"
    )


@functools.cache
def explain_traced(operator: str) -> None:
    """Let torch.onnx.export(dynamo=False) say the same of a model that was traced before.

    Called when an operator is traced: importing torch.onnx takes 0.2 s, once.
    """
    from torch.onnx import register_custom_op_symbolic  # type: ignore[attr-defined]

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        refuse_onnx(operator)

    register_custom_op_symbolic(f"bninv::{operator}", refuse, _OLDEST_OPSET)


# The one from which on PyTorch's own operators are registered.
_OLDEST_OPSET = 7
