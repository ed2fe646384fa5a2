"""From a function that Python code calls to its row: what it is, and what becomes of it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._rounding import narrows_once, rounds_once
from bninv.dispatch import (
    casts,
    composed,
    conditions,
    contraction,
    covered,
    exact,
    layout,
    selections,
)
from bninv.modules.exact import is_whole
from bninv.operators import PYTHON, TORCHVISION
from bninv.operators.adapters import Adapter
from bninv.operators.matmul import chain_matmul

_ARITHMETIC = exact.names("add add_ sub sub_ mul mul_")


def _plain_pair(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """A float32 tensor and another or a number: most calls, decided at once."""
    if kwargs or len(args) != 2:
        return False
    a, b = args
    if not isinstance(a, Tensor) or a.dtype is not torch.float32:
        return False
    if isinstance(b, Tensor):
        return b.dtype is torch.float32 and a.dim() > 0 and b.dim() > 0
    return type(b) is float or type(b) is int


@dataclass(frozen=True)
class Row:
    """What becomes of a function: nothing (`passes`), an operator of bninv's, or it is exact.

    `name` is ATen's. A call whose arguments fit neither `adapter` nor `group`, and which `repair`
    does not take either, is looked at operator by operator; `in_order` is then what is called for
    a function that would choose by sizes in which order it calls them.
    """

    name: str
    passes: bool = False
    adapter: Adapter | None = None
    group: exact.Group | None = None
    repair: Adapter | None = None
    instead: Callable[..., Any] | None = None  # how an exact call is made, if not as it stands
    in_order: Callable[..., Any] | None = None
    inside: Callable[..., Any] | None = None  # its code in Python, whose own calls are looked up

    def is_exact(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether this call rounds nothing that could be rounded in another way."""
        if self.name in _ARITHMETIC and _plain_pair(args, kwargs):
            return True
        return self.group is not None and self.group.holds(args, kwargs)


# Asked of a tensor, not computed with it.
_QUESTIONS = exact.names(
    """size dim ndimension stride is_contiguous numel nelement element_size storage_offset data_ptr
    get_device is_floating_point is_complex is_inference is_set_to is_same_size is_conj is_neg
    is_pinned is_shared is_tensor has_names layout untyped_storage storage requires_grad_
    register_hook retain_grad tolist numpy cpu cuda from_numpy is_grad_enabled
    result_type promote_types can_cast __len__ __bool__ __repr__ __str__ __format__ __hash__
    __iter__ __contains__ __array__ __index__ __int__ __float__ __deepcopy__ __reduce_ex__ __dir__
    __dlpack__ __dlpack_device__ _nested_tensor_from_mask_left_aligned"""
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
    "__ipow__": "pow_",
    "__floordiv__": "floor_divide",
    "__ifloordiv__": "floor_divide_",
    "__mod__": "remainder",
    "__imod__": "remainder_",
    "arctan2": "atan2",
    "arctan2_": "atan2_",
    "arctan": "atan",
    "arctan_": "atan_",
    "__matmul__": "matmul",
    "linalg_matmul": "matmul",
    "fold": "col2im",
    "special_logsumexp": "logsumexp",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_erf": "erf",
    "special_exp2": "exp2",
    "special_expit": "sigmoid",
    "special_expm1": "expm1",
    "special_log1p": "log1p",
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
    "__rand__": "bitwise_and",
    "__ror__": "bitwise_or",
    "__rxor__": "bitwise_xor",
    "__pos__": "positive",
    "multiply_": "mul_",
    "subtract_": "sub_",
    "divide_": "div_",
    "true_divide_": "div_",
    "negative_": "neg_",
    "absolute": "abs",
    "absolute_": "abs_",
    "fix": "trunc",
    "fix_": "trunc_",
    "clip": "clamp",
    "clip_": "clamp_",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "broadcast_tensors": "expand",
    "atleast_1d": "view",
    "atleast_2d": "view",
    "atleast_3d": "view",
}

# Functions of torch.nn.functional that only move elements, whatever they call.
_MOVING = exact.names(
    """pad unfold pixel_shuffle pixel_unshuffle channel_shuffle dropout dropout1d dropout2d
    dropout3d alpha_dropout feature_alpha_dropout"""
)


def _interpolates_by_copying(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    if mode not in ("nearest", "nearest-exact"):
        return False
    # By a factor that is no integer stock CUDA may take other elements than stock CPU.
    factor = kwargs.get("scale_factor", args[2] if len(args) > 2 else None)
    return is_whole(factor) or all(t.device.type != "cuda" for t in exact.tensors_in(args[:1]))


def _not_in_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (args[2] if len(args) > 2 else kwargs.get("training", True)) is False


def _normalises_nothing(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (args[3] if len(args) > 3 else kwargs.get("max_norm")) is None


def _from_numbers(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    data = args[-1] if args else kwargs.get("data")
    return isinstance(data, (int, float, list, tuple)) and not list(exact.tensors_in(data))


def _sets_exactly(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # A list or a tensor of indices may name a place twice; a mask and a slice do not.
    target, key, value = args
    for part in key if isinstance(key, tuple) else (key,):
        is_mask = isinstance(part, torch.Tensor) and part.dtype == torch.bool
        if not (is_mask or part is None or part is ... or isinstance(part, (int, slice))):
            return False
    if isinstance(value, torch.Tensor):
        return rounds_once(value.dtype, target.dtype, narrows_once([target, value]))
    return isinstance(value, (int, float))


def _to_dtype(dtype: torch.dtype) -> exact.Condition:
    def converts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        return rounds_once(args[0].dtype, dtype, narrows_once(args[:1]))

    return converts


_DTYPE_METHODS = {
    "double": torch.float64,
    "float": torch.float32,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "char": torch.int8,
    "byte": torch.uint8,
    "bool": torch.bool,
}


def _method_rows() -> dict[Any, Row]:
    """Functions that no operator of ATen's stands for."""
    nothing = frozenset[str]()
    rows = {}
    for name, dtype in _DTYPE_METHODS.items():
        group = exact.Group("changes the dtype", nothing, _to_dtype(dtype))
        rows[getattr(torch.Tensor, name)] = Row(name, group=group, repair=casts.method(dtype))
    rows[torch.Tensor.to] = Row("to", group=exact.group_of("to"), repair=casts.to)
    numbers = exact.Group("makes a tensor from numbers", nothing, _from_numbers)
    for function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
        rows[function] = Row(function.__name__, group=numbers)
    sets = exact.Group("copies elements", nothing, _sets_exactly)
    rows[torch.Tensor.__setitem__] = Row("__setitem__", group=sets)
    # number / tensor: a reciprocal and a multiplication, each rounded once.
    divides = exact.Group("two IEEE operations", nothing, conditions.number_over_tensor)
    rows[torch.Tensor.__rdiv__] = rows[torch.Tensor.__rtruediv__] = Row("__rdiv__", group=divides)
    for name, adapter in covered.OF_A_NUMBER.items():
        rows[getattr(torch.Tensor, name)] = Row(name, adapter=adapter)
    rows[_torch.set_grad_enabled] = Row("set_grad_enabled", passes=True)
    rows[torch.functional.einsum] = Row(
        "einsum", adapter=contraction.einsum, in_order=composed.einsum_left_to_right
    )
    rows[torch.functional.chain_matmul] = Row("chain_matmul", adapter=chain_matmul)
    name = "multi_head_attention_forward"
    rows[getattr(torch.nn.functional, name)] = Row(name, inside=_torch.multi_head_attention_code)
    rows[torch.nn.functional.fold] = _named("col2im")
    rows[operator.matmul] = _named("matmul")  # what Dynamo makes of `a @ b`
    return rows


def _python_rows() -> dict[Any, Row]:
    """The functions of torch.nn.functional that are written in Python."""
    functional = torch.nn.functional
    rows = {}
    for name, adapter in PYTHON.items():
        rows[getattr(functional, name)] = Row(name, adapter=adapter, group=exact.group_of(name))
    copies = exact.Group("copies elements, changes none", frozenset())
    dropout = exact.Group("the identity outside training", frozenset(), _not_in_training)
    nearest = exact.Group("copies elements", frozenset(), _interpolates_by_copying)
    for name in _MOVING:
        if hasattr(functional, name):
            group = dropout if "dropout" in name else copies
            rows[getattr(functional, name)] = Row(name, group=group)
    rows[functional.one_hot] = Row("one_hot", group=copies, instead=selections.one_hot)
    for name in ("interpolate", "upsample"):
        rows[getattr(functional, name)] = Row(name, group=nearest, repair=PYTHON[name])
    rows[functional.embedding] = Row(
        "embedding", group=exact.Group("copies elements", frozenset(), _normalises_nothing)
    )
    # Python code around one operator of the same name.
    for name in ("hardtanh", "threshold", "max_pool3d", "adaptive_max_pool3d"):
        rows.setdefault(getattr(functional, name), _named(name))
    for name in ("glu", "rrelu"):
        rows[getattr(functional, name)] = _named(name)
    for dimensions in "123":
        for name in (f"max_pool{dimensions}d", f"adaptive_max_pool{dimensions}d"):
            with_indices = Row(f"{name}_with_indices", group=exact.group_of(name))
            rows[getattr(functional, with_indices.name)] = with_indices
    return rows


def _named(name: str) -> Row:
    return Row(
        name,
        adapter=covered.ATEN.get(name),
        group=exact.group_of(name),
        repair=covered.REPAIRS.get(name),
        instead=layout.INSTEAD.get(name),
    )


def _function_rows() -> dict[Any, Row]:
    rows: dict[Any, Row] = {torch._assert: Row("_assert", passes=True)}
    owners = (torch, torch.Tensor, torch.functional, _torch.NN, _torch.LINALG, _torch.SPECIAL)
    aliases = {name: name for name in (*covered.ATEN, *exact.operators())} | _OPERATORS
    for alias, name in aliases.items():
        row = _named(name)
        for function in _found(owners, alias):
            rows.setdefault(function, row)
    for name in _QUESTIONS:
        for function in _found(owners, name):
            rows[function] = Row(name, passes=True)
    return {**rows, **_python_rows(), **_method_rows()}


def _found(owners: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    found = [getattr(owner, name, None) for owner in owners]
    return [function for function in found if callable(function) and not isinstance(function, type)]


# Complete from the start (in two milliseconds): a graph of torch.compile's is guarded by the
# dictionaries that its tracing read, so none of those may change afterwards.
_rows: dict[Any, Row] = _function_rows()
_others: dict[Any, Row | None] = {}  # what became of functions that are not in there


def row_of(function: Any) -> Row | None:
    """The row of a function as a TorchFunctionMode gets it, or None."""
    try:
        return _rows[function]
    except KeyError:
        pass
    if torch.compiler.is_compiling():
        return _other_row(function)
    try:
        return _others[function]
    except KeyError:
        _others[function] = row = _other_row(function)
        return row


def _other_row(function: Any) -> Row | None:
    if getattr(function, "__name__", "") in ("__get__", "__set__", "__delete__"):
        return Row("attribute", passes=True)  # x.shape, x.device, ...: views at most
    if isinstance(function, (_torch.OpOverload, _torch.OpOverloadPacket)):
        namespace, _, name = str(function).partition(".")
        if namespace == "bninv":
            return Row(str(function), passes=True)
        # Called as they are, composite ones would be in parts by the time that a mode sees them.
        name = name.partition(".")[0]
        if namespace == "torchvision":
            return _of_torchvision(name)
        return _named(name) if namespace == "aten" and name in covered.ATEN else None
    return None


def _of_torchvision(name: str) -> Row | None:
    adapter = TORCHVISION.get(name)
    return None if adapter is None else Row(f"torchvision::{name}", adapter=adapter)


def aten_row(func: Any) -> Row | None:
    """The row of an operator as a TorchDispatchMode gets it, or None."""
    if func.namespace in ("bninv", "prim"):  # prim: a fake tensor is asked for its device
        return Row(func.name(), passes=True)
    name = func.overloadpacket.__name__
    if func.namespace == "torchvision":
        return _of_torchvision(name)
    if func.namespace != "aten":
        return None
    row = _named(name)
    return row if row.adapter or row.group else None


def name_of(function: Any) -> str:
    """What to call a function in a message."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    name = str(name or function).replace("_VariableFunctionsClass", "torch")
    name = name.replace("TensorBase", "Tensor")
    module = getattr(function, "__module__", None) or ""
    return name if "." in name or not module.startswith("torch") else f"{module}.{name}"
