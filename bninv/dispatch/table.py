"""From a function that Python code calls to its row: what it is, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv import exact
from bninv.dispatch import covered

_ARITHMETIC = exact.names("add add_ sub sub_ mul mul_")


def _plain_pair(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Two float32 tensors with dimensions, and nothing else: most calls, decided at once."""
    if kwargs or len(args) != 2:
        return False
    a, b = args
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return both and a.dtype is torch.float32 is b.dtype and a.dim() > 0 < b.dim()


@dataclass(frozen=True)
class Row:
    """What becomes of a function: nothing (`passes`), an operator of bninv's, or it is exact.

    `name` is ATen's. A call whose arguments fit neither `adapter` nor `group` is uncovered.
    """

    name: str
    passes: bool = False
    adapter: covered.Adapter | None = None
    group: exact.Group | None = None

    def is_exact(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether this call rounds nothing that could be rounded in another way."""
        group = self.group
        if self.name in _ARITHMETIC and _plain_pair(args, kwargs):
            return True
        return group is not None and (group.condition is None or group.condition(args, kwargs))


# Asked of a tensor, not computed with it.
_QUESTIONS = exact.names(
    """size dim ndimension stride is_contiguous numel nelement element_size storage_offset data_ptr
    get_device is_floating_point is_complex is_inference is_set_to is_same_size is_conj is_neg
    is_pinned is_shared is_tensor has_names layout untyped_storage storage requires_grad_
    register_hook retain_grad tolist numpy cpu cuda backward set_grad_enabled is_grad_enabled
    result_type promote_types can_cast __len__ __bool__ __repr__ __str__ __format__ __hash__
    __iter__ __contains__ __array__ __index__ __int__ __float__ __deepcopy__ __reduce_ex__ __dir__
    __dlpack__ __dlpack_device__"""
)

_OPERATORS = {
    "__add__": "add",
    "__radd__": "add",
    "__iadd__": "add_",
    "__sub__": "sub",
    "__isub__": "sub_",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul_",
    "__truediv__": "div",
    "__itruediv__": "div_",
    "__div__": "div",
    "__idiv__": "div_",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "__pow__": "pow",
    "__neg__": "neg",
    "negative": "neg",
    "__abs__": "abs",
    "__getitem__": "index",
    "__eq__": "eq",
    "__ne__": "ne",
    "__lt__": "lt",
    "__le__": "le",
    "__gt__": "gt",
    "__ge__": "ge",
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__invert__": "bitwise_not",
    "concat": "cat",
    "concatenate": "cat",
    "reshape_as": "reshape",
    "ravel": "flatten",
    "moveaxis": "movedim",
    "swapdims": "swapaxes",
    "conj": "alias",
}

# Functions of torch.nn.functional that only move elements, whatever they call.
_MOVING = exact.names(
    """pad one_hot pixel_shuffle pixel_unshuffle channel_shuffle dropout dropout1d dropout2d
    dropout3d alpha_dropout feature_alpha_dropout"""
)


def _interpolates_by_copying(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    return mode in ("nearest", "nearest-exact")


def _not_in_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (args[2] if len(args) > 2 else kwargs.get("training", True)) is False


def _python_rows() -> dict[Any, Row]:
    """The functions of torch.nn.functional that are written in Python."""
    functional = torch.nn.functional
    rows = {}
    for name, adapter in covered.PYTHON.items():
        rows[getattr(functional, name)] = Row(name, adapter=adapter, group=exact.group_of(name))
    copies = exact.Group("copies elements, changes none", frozenset())
    dropout = exact.Group("the identity outside training", frozenset(), _not_in_training)
    nearest = exact.Group("copies elements", frozenset(), _interpolates_by_copying)
    for name in _MOVING:
        if hasattr(functional, name):
            group = dropout if "dropout" in name else copies
            rows[getattr(functional, name)] = Row(name, group=group)
    rows[functional.interpolate] = Row("interpolate", group=nearest)
    # Python code around one operator of the same name.
    for name in ("hardtanh", "threshold", "max_pool3d", "prelu"):
        rows.setdefault(getattr(functional, name), Row(name, group=exact.group_of(name)))
    return rows


def _function_rows() -> dict[Any, Row]:
    rows: dict[Any, Row] = {torch._assert: Row("_assert", passes=True)}
    owners = (torch, torch.Tensor, torch._C._nn, torch.functional)
    aliases = {name: name for name in (*covered.ATEN, *exact.operators())} | _OPERATORS
    for alias, name in aliases.items():
        row = Row(name, adapter=covered.ATEN.get(name), group=exact.group_of(name))
        for function in _found(owners, alias):
            rows.setdefault(function, row)
    for name in _QUESTIONS:
        for function in _found(owners, name):
            rows[function] = Row(name, passes=True)
    return {**rows, **_python_rows()}


def _found(owners: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    found = [getattr(owner, name, None) for owner in owners]
    return [function for function in found if callable(function) and not isinstance(function, type)]


_rows: dict[Any, Row | None] = {}


def row_of(function: Any) -> Row | None:
    """The row of a function as a TorchFunctionMode gets it, or None."""
    if not _rows:
        _rows.update(_function_rows())
    try:
        return _rows[function]
    except KeyError:
        pass
    row = None
    if getattr(function, "__name__", "") in ("__get__", "__set__", "__delete__"):
        row = Row("attribute", passes=True)  # x.shape, x.device, ...: views at most
    elif isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        row = Row(str(function), passes=True) if str(function).startswith("bninv.") else None
    _rows[function] = row
    return row


def aten_row(operator: Any) -> Row | None:
    """The row of an operator as a TorchDispatchMode gets it, or None."""
    if operator.namespace == "bninv":
        return Row(operator.name(), passes=True)
    if operator.namespace != "aten":
        return None
    name = operator.overloadpacket.__name__
    adapter = covered.ATEN.get(name)
    group = exact.group_of(name)
    return Row(name, adapter=adapter, group=group) if adapter or group else None


def name_of(function: Any) -> str:
    """What to call a function in a message."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    name = str(name or function).replace("_VariableFunctionsClass", "torch")
    name = name.replace("TensorBase", "Tensor")
    module = getattr(function, "__module__", None) or ""
    return name if "." in name or not module.startswith("torch") else f"{module}.{name}"
