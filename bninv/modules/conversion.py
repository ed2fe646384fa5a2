"""What a patched module answers to tools that change modules, where they call the module itself.

They recognise a layer by `type(layer) is nn.Linear`, or rely on what its stock forward does with
its parameters. Without an answer they would do nothing, or fail later with a message that does not
mention bninv.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from bninv._conversion import STOCK_MODEL, ConversionError


class _Qconfig:
    """`module.qconfig`, which torch.ao.quantization sets on every module before it does anything.

    One that the module had when it was patched is read as before.
    """

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        try:
            return module.__dict__["qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    def __set__(self, module: Any, value: Any) -> NoReturn:
        raise ConversionError(
            f"`qconfig` of a patched {stock_name(module)}: torch.ao.quantization does not quantize "
            f"what bninv.patch has changed. {STOCK_MODEL} quantized"
        )

    def __delete__(self, module: Any) -> None:
        if module.__dict__.pop("qconfig", self) is self:
            raise AttributeError("qconfig")


class Unconvertible:
    """Base of every patched module's class."""

    qconfig: ClassVar[Any] = _Qconfig()

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by torch.jit.script, of a module and of all modules in it, before it compiles."""
        raise ConversionError(
            f"torch.jit.script: {stock_name(self)} is patched, and TorchScript cannot compile "
            f"bninv's Python code. {STOCK_MODEL} scripted; torch.jit.trace and torch.export take "
            "the patched one"
        )

    def register_parameter(self, name: str, param: Any) -> None:
        # Where `module.weight = ...` ends as well, and what torchao's quantize_ does.
        if isinstance(param, Tensor) and is_traceable_wrapper_subclass(param):
            raise ConversionError(
                f"`{name}` of a patched {stock_name(self)} is {type(param).__name__}, for which "
                "bninv has no kernel; it may be a torch.nn.Parameter of ordinary numbers. "
                f"{STOCK_MODEL} quantized or sharded"
            )
        super().register_parameter(name, param)  # type: ignore[misc]


def stock_name(module: Any) -> str:
    """The name of the class that a patched module had before."""
    name: str = type(module)._stock_class.__name__
    return name
