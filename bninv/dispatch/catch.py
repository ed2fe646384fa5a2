"""The two front ends of the table, and the context manager that puts them in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ContextDecorator, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bninv import _autocast, _protection, _torch
from bninv._arguments import Precision, need_precision
from bninv.building import extension
from bninv.dispatch import covered, exact, table
from bninv.dispatch.policy import Policy, UncoveredCall
from bninv.operators.adapters import UnfitError


class Catch(_protection.Protection):
    """Sees every function of PyTorch's that Python code calls, and does what its row says."""

    def __init__(self, policy: Policy, of_model: bool = False) -> None:
        super().__init__()
        self.policy, self.of_model = policy, of_model
        self.net: Net | None = None  # one that is there for as long as this is, outside of it

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        row = table.row_of(func)
        if row is None:
            return self._through_net(func, args, kwargs or {})
        if row.as_it_is and not kwargs and self.net is None:
            return func(*args)
        if row.passes:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self.run(row, func, args, kwargs or {})

    def run(
        self, row: table.Row, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Do what a row says with a call; outside of this mode, as one that was caught."""
        if row.inside is not None:
            with _again(self):
                return row.inside(*args, **kwargs)
        if row.adapter is not None:
            try:
                return covered.call(row.name, row.adapter, args, kwargs, self.policy.precision)
            except UnfitError:
                pass
        if row.is_exact(args, kwargs):
            if row.instead is not None:
                return row.instead(func, args, kwargs)
            return func(*args, **kwargs) if self.net is None else self.net.run(func, args, kwargs)
        if row.repair is not None:
            try:
                return covered.call(row.name, row.repair, args, kwargs)
            except UnfitError:
                pass
        return self._through_net(func, args, kwargs, row.in_order)

    def _through_net(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], in_order: Any = None
    ) -> Any:
        """Call a function that the table does not decide, operator by operator."""
        if torch.compiler.is_compiling():
            raise self.policy.lost(table.name_of(func), "torch.compile")
        if _torch.tracing_state() is not None:
            raise self.policy.lost(table.name_of(func), "torch.jit.trace")
        func = in_order or func
        if self.net is not None:
            return self.net.run(func, args, kwargs)
        net = Net(self.policy)
        with net:
            return net.run(func, args, kwargs)


@contextmanager
def _again(catch: Catch) -> Iterator[None]:
    """The mode in place while it does what a row says."""
    _torch.push_mode(catch)
    try:
        yield
    finally:
        _torch.pop_mode()


class Net(TorchDispatchMode):
    """Sees every operator that PyTorch executes, and does what its row says."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.autocast: list[str] = []  # types of device that have it for the running function

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a function under this mode, which must be in place."""
        if not _torch.any_autocast():
            return func(*args, **kwargs)
        before, self.autocast = self.autocast, _autocast.enabled_devices()
        try:
            return func(*args, **kwargs)
        finally:
            self.autocast = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.autocast or not _is_composite(func):
            return self._operator(func, args, kwargs)
        # Under inference_mode composite operators arrive whole, and in here there is no autocast.
        # What they call is to be cast, unless autocast has done so for the operator itself.
        tensor = next(exact.tensors_in((args, kwargs)), None)
        device = "" if tensor is None else tensor.device.type
        before = self.autocast
        if _autocast.is_listed(func.name().removeprefix("aten::"), device):
            self.autocast = []
        try:
            with _autocast.enabled_again(self.autocast):
                return self._operator(func, args, kwargs)
        finally:
            self.autocast = before

    def _operator(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        row = table.aten_row(func)
        if row is not None and row.passes:
            return func(*args, **kwargs)
        if row is not None and row.adapter is not None:
            try:
                return covered.call(row.name, row.adapter, args, kwargs, self.policy.precision)
            except UnfitError:
                pass
        if row is not None and row.repair is not None and not row.is_exact(args, kwargs):
            try:
                return covered.call(row.name, row.repair, args, kwargs)
            except UnfitError:
                pass
        if row is None and _is_composite(func):
            # Under inference_mode composite operators arrive whole; their parts may be exact.
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if exact.reason(func, args, kwargs, result) is None and not _holds_no_sample(
            func, args, kwargs
        ):
            self.policy.note(f"{func.namespace}::{func.overloadpacket.__name__}")
        return result


def _holds_no_sample(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is of parameters alone, as weight_norm's, or writes to one, as an
    initialisation does.
    """
    if bool(args) and isinstance(args[0], nn.Parameter) and func._schema.is_mutable:
        return True
    inputs = list(exact.tensors_in((args, kwargs)))
    return bool(inputs) and all(isinstance(tensor, nn.Parameter) for tensor in inputs)


def _is_composite(func: Any) -> bool:
    # The dispatcher does not know those of TorchScript's, such as a fake tensor's `prim.device`.
    return func.namespace != "prim" and _torch.has_kernel(func.name(), "CompositeImplicitAutograd")


class Invariant(ContextDecorator):
    """What `invariant` returns: a context manager and decorator, for any number of threads."""

    def __init__(self, policy: Policy, of_model: bool = False) -> None:
        self._policy, self._of_model = policy, of_model

    @property
    def uncovered(self) -> list[UncoveredCall]:
        """The operators without a row that ran so far, in order of first occurrence."""
        return self._policy.uncovered

    def __enter__(self) -> Invariant:
        catch = Catch(self._policy, self._of_model)
        if self._policy.strict and not torch.compiler.is_compiling():
            catch.net = Net(self._policy)
            catch.net.__enter__()
        _torch.push_mode(catch)
        return self

    def __exit__(self, *error: object) -> None:
        # The state is in the thread's own stack of modes, and nowhere else.
        catch: Catch = _torch.pop_mode()
        if catch.net is not None:
            catch.net.__exit__(*error)


def invariant(*, strict: bool = False, precision: Precision = "ieee") -> Invariant:
    """Make the functional calls of any code batch-invariant, in this thread and scope.

    >>> with bninv.invariant():
    ...     y = F.softmax(F.conv2d(x, weight).mean((2, 3)), dim=-1)

    Calls that bninv has an operator for become that operator, stock modules' calls included; exact
    ones (a sum of two tensors, a view) stay PyTorch's own. What is neither is warned of once and
    listed in `.uncovered` of what this returns. Nothing outside the scope changes. Each Python call
    of a PyTorch function costs about a microsecond more; one that has no row, and with `strict`
    every operator, 5 to 17. Code outside Python (TorchScript) is only seen with `strict`.

    Args:
        strict: raise instead of warning, and look at every operator.
        precision: 'tensor' has convolutions, linear layers and products of matrices run on tensor
            cores, rule R9; as for `patch`, whose models keep their own.

    Raises:
        ValueError: `precision` is something else.
        NotInvariantError: `strict`, and an operator has no row; or such an operator meets
            torch.compile or torch.jit.trace, under which it would escape.

    Warns:
        NotInvariantWarning: once for each operator without a row.
    """
    need_precision(precision)
    extension.load()
    return Invariant(Policy(strict, precision=precision))
