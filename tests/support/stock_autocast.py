"""Autocast on any machine, and what PyTorch's does with an operator's arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves


@contextmanager
def autocast(device: str, dtype: torch.dtype) -> Iterator[None]:
    """`torch.autocast`, which switches itself off for "cuda" where there is no GPU."""
    enabled, before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, before)


# ---- PyTorch's lists, read off PyTorch -----------------------------------------------------------

_LOW = torch.float16


class _ReachedError(Exception):
    """An operator was called below autocast: with what."""


class _Probe(torch.Tensor):
    """A tensor without memory, of any device: converts itself, and reports any other operator."""

    @staticmethod
    def __new__(cls, device: str, dtype: torch.dtype) -> _Probe:
        return torch.Tensor._make_wrapper_subclass(cls, (2, 2), dtype=dtype, device=device)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        values = (*args, *(kwargs or {}).values())
        if func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy):
            [dtype] = [value for value in values if isinstance(value, torch.dtype)]
            return _Probe(args[0].device.type, dtype)
        raise _ReachedError(func, values)


def names(device: str) -> list[str]:
    """ATen's operators, with their overloads, that autocast has a policy for on such a device."""
    key = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device]
    return [
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
    ]


def policy(name: str, device: str) -> str | None:
    """PyTorch's policy for one of them, read off what arrives below autocast.

    None if it cannot be read off: Python cannot hand over the names of dimensions, nor what cuDNN's
    recurrent layers want.
    """
    name, _, overload = name.partition(".")
    if "imname" in overload or overload.startswith("names_") or name == "_cudnn_rnn":
        return None
    return _policy(getattr(getattr(torch.ops.aten, name), overload or "default"), device)


def _policy(op: Any, device: str) -> str:
    try:
        reached, dtypes, named = _below_autocast(op, device, [torch.float32])
    except RuntimeError as error:
        if "unsafe to autocast" in str(error):
            return "banned"
        raise
    if named:
        assert named == [torch.float32]
        return "fp32_set_opt_dtype" if reached is op else "fp32_append_dtype"
    if dtypes == {_LOW}:
        return "lower_precision_fp"
    if _below_autocast(op, device, [_LOW])[1] == {torch.float32}:
        return "fp32"
    assert _below_autocast(op, device, [torch.float32, _LOW])[1] == {torch.float32}, op
    return "promote"


def _below_autocast(
    op: Any, device: str, dtypes: list[torch.dtype]
) -> tuple[Any, set[torch.dtype], list[torch.dtype]]:
    """What arrives below autocast: the operator, its tensors' dtypes, and the dtypes it is named.

    Called with tensors of these dtypes, of the last of them where there are more.
    """
    given = iter([*dtypes, *[dtypes[-1]] * 20])
    positional, keywords = [], {}
    for argument in op._schema.arguments:
        value = _argument(str(argument.type), lambda: _Probe(device, next(given)))
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    # Under inference_mode operators that are made of others arrive whole.
    with torch.inference_mode(), autocast(device, _LOW):
        try:
            op(*positional, **keywords)
        except _ReachedError as call:
            reached, values = call.args
    leaves = tree_leaves(values)
    tensors = {leaf.dtype for leaf in leaves if isinstance(leaf, torch.Tensor)}
    return reached, tensors, [leaf for leaf in leaves if isinstance(leaf, torch.dtype)]


_VALUES = {"int": 1, "float": 1.0, "number": 1.0, "bool": False, "str": "a"}


def _argument(kind: str, tensor: Any) -> Any:
    """A value for an argument of this type: any will do, since nothing computes with it."""
    if kind in ("Tensor", "Optional[Tensor]"):
        return tensor()
    if kind == "List[Tensor]":
        return [tensor(), tensor()]
    if kind.startswith("Optional"):
        return None
    if kind.startswith("List"):
        return [_VALUES.get(kind[len("List[") : -1])]
    return _VALUES[kind]
