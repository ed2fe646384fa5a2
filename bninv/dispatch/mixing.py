"""Samples that are mixed by meaning: `x - x.mean(0)`, `softmax(x, 0)`, `x @ x.T`.

Each of these operators obeys the contract, and yet a sample's result depends on the others. Which
dimension of a tensor in the middle of a model holds the batch cannot be told from one run: another
may be as long. From two it can: what an operator adds up, compares or sorts is longer by as much as
the batch is. So the first runs of two batch sizes are looked at, operator by operator; no other is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bninv import _torch
from bninv.dispatch.call_site import calling_line
from bninv.dispatch.exact import names

# They take many elements together, those of the argument `dim` or all. `any` and `all` are missing:
# they are asked whether something is wrong.
_TOGETHER = names(
    """sum mean prod amax amin aminmax max min argmax argmin var std var_mean std_mean median mode
    logsumexp norm linalg_vector_norm softmax _softmax log_softmax _log_softmax cumsum cumprod
    logcumsumexp cummax cummin sort argsort topk kthvalue quantile"""
)
_PRODUCTS = names("linear bmm matmul mm addmm")
_NOTED = _TOGETHER | _PRODUCTS
_SORTS = names("sort argsort topk")  # along the last dimension, if they are told none
OVER_BATCH = "over the batch's dimension"
_MOST = 64  # ways of calling a model that are looked at


class Step(NamedTuple):
    """An operator that takes elements together: how many, and the line that called it."""

    operator: str
    extents: tuple[int, ...]
    place: str


class Mixing:
    """What a model's runs have shown so far. Shared by its modules."""

    def __init__(self) -> None:
        # By the way of calling: the batch's size and the steps; None where two sizes were seen.
        self._seen: dict[Hashable, tuple[int, list[Step]] | None] = {}

    def watch(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Watch | None:
        """A mode to run a call under, or None where there is nothing to learn from it."""
        batch = None if _torch.is_observed() else _first_tensor((*args, *kwargs.values()))
        if batch is None:
            return None
        size = batch.shape[0]
        owner = id(getattr(function, "__self__", args[0] if args else None))
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), _torch.any_autocast()
        name = getattr(function, "__qualname__", "")
        key = owner, name, batch.shape[1:], batch.dtype, modes
        seen = self._seen.get(key, ())
        if seen is None or (seen and seen[0] == size):
            return None
        if not seen and len(self._seen) >= _MOST:
            return None
        return Watch(self, key, size)

    def learn(self, key: Hashable, size: int, steps: list[Step]) -> list[Step]:
        """Compare a run with that of another batch size: the steps that mix samples."""
        before = self._seen.get(key, ())
        if not before:
            self._seen[key] = size, steps
            return []
        self._seen[key] = None
        old, others = before
        if [step.operator for step in steps] != [step.operator for step in others]:
            return []  # another path through the code
        return [
            step
            for step, other in zip(steps, others, strict=True)
            if any(
                n != m and n * old == m * size
                for n, m in zip(step.extents, other.extents, strict=True)
            )
        ]

    def __reduce__(self) -> Any:
        return Mixing, ()  # a copy's modules are others


class Watch(TorchDispatchMode):
    """Notes the operators that take elements together."""

    def __init__(self, mixing: Mixing, key: Hashable, size: int) -> None:
        super().__init__()
        self._mixing, self._key, self._size = mixing, key, size
        self._steps: list[Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if func.namespace in ("aten", "bninv") and name in _NOTED:
            file, line, _ = calling_line() or ("<unknown>", 1, {})
            extents = _factors(args) if name in _PRODUCTS else _reduced(func, args, kwargs)
            self._steps.append(Step(f"{func.namespace}::{name}", extents, f"{file}:{line}"))
        return func(*args, **kwargs)

    def mixed(self) -> list[Step]:
        """What mixed samples, as far as is known now; once the run has ended."""
        return self._mixing.learn(self._key, self._size, self._steps)


def _factors(args: tuple[Any, ...]) -> tuple[int, ...]:
    """The lengths of a product's sums, and how many of them share an operand's row."""
    matrices = [a for a in args if isinstance(a, Tensor) and a.dim() >= 2]
    return tuple(size for matrix in matrices[-2:] for size in matrix.shape[-2:])[1:]


def _reduced(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """How many elements an operator takes together."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | {**kwargs}
    x, dims = args[0], given.get("dim")
    if not isinstance(x, Tensor):
        return ()
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        last = "dim" not in given and func.overloadpacket.__name__ in _SORTS
        dims = [-1] if last and x.dim() else range(x.dim())
    dims = [dims] if isinstance(dims, int) else dims
    return (math.prod(x.shape[d] for d in dims) if x.dim() else 1,)


def _first_tensor(values: tuple[Any, ...]) -> Tensor | None:
    """The tensor that holds the batch: the first that has a dimension."""
    for value in values:
        if isinstance(value, Tensor):
            if value.dim() > 0 and value.shape[0] > 0:
                return value
        elif isinstance(value, dict):
            found = _first_tensor(tuple(value.values()))
            if found is not None:
                return found
    return None
