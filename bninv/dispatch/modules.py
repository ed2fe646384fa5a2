"""Modules with code of their own: their calls are caught, whichever way they are entered.

`model(x)`, `model.forward_features(x)` and `model.blocks[0](x)` are all calls of methods of some
module; `bninv.modules.entry` has them run under the protection that is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bninv._protection import step_in, step_out
from bninv.dispatch.blocks import program_or_forward
from bninv.dispatch.catch import Invariant
from bninv.dispatch.detection import calls_batched_nms, with_standing_in
from bninv.dispatch.mixing import OVER_BATCH, Mixing
from bninv.dispatch.policy import Policy, UncoveredCall
from bninv.dispatch.tracing import protect_traced
from bninv.modules.base import Patched, stock_class
from bninv.modules.entry import entry, method, module_call, own_attributes, own_methods


class ModelPolicy(Policy):
    """What a patched model's modules share: it warns at the end of a run, of all at once."""

    def __init__(self) -> None:
        super().__init__(gathers=True)
        self._mixing = Mixing()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function that a model is entered by, under the protection.

        Warns:
            NotInvariantWarning: of what was not covered, and of samples that were mixed.
        """
        watch = self._mixing.watch(function, args, kwargs)
        if watch is None:
            with Invariant(self, of_model=True):
                result = function(*args, **kwargs)
        else:
            with Invariant(self, of_model=True), watch:
                result = function(*args, **kwargs)
            for step in watch.mixed():
                self.note(f"{step.operator} {OVER_BATCH}", step.place)
        if not torch.compiler.is_compiling():  # where an uncovered call is an error
            self.tell()
        return result

    def record(self, tracer: Any, run: Callable[[], Any]) -> Any:
        """The same for code that torch.fx traces."""
        return protect_traced(tracer, run)


Patched.new_policy = ModelPolicy


class Protected(Patched):
    """A module of unknown code, or a container of any."""

    is_kind = False
    fuses = True

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        own: dict[str, Any] = {
            name: entry(stock, name, value) for name, value in own_attributes(stock)
        }
        own["forward"] = method(stock, "forward", stock.forward, run=program_or_forward(stock))  # type: ignore[attr-defined]
        for name, value in own_methods(stock):
            if calls_batched_nms(value):
                own[name] = method(stock, name, value, run=with_standing_in(stock, name))
        if issubclass(stock, torch.fx.GraphModule):
            own["recompile"] = _recompile
        return {**own, "__call__": module_call(stock)}


def _recompile(self: Any) -> Any:
    """GraphModule's, which writes the code into the module's class: into the stock one."""
    patched, self.__class__ = type(self), stock_class(self)
    try:
        return self.recompile()
    finally:
        self.__class__ = patched


class SeenByCalls(Protected):
    """A module of torch.nn that stays what it is, but whose calls are looked up as it runs."""

    fuses = False
    # MultiheadAttention's, which it hands to `linear`, and a recurrent cell's.
    panel_parameters = (
        *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
        *("weight_ih", "weight_hh"),
    )


class Excluded(Patched):
    """A module that `filter_fn` left out below a protected one: its own calls stay stock."""

    is_kind = False

    @classmethod
    def members(cls, stock: type) -> dict[str, Any]:
        return {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        protection = step_out()
        try:
            return super(Patched, self).forward(*args, **kwargs)  # type: ignore[misc]
        finally:
            step_in(protection)


def mixed_samples(model: nn.Module) -> list[UncoveredCall]:
    """The operators that mixed samples in the model's runs so far."""
    policy = policy_of(model)
    found = [] if policy is None else policy.uncovered
    return [call for call in found if call.operator.endswith(OVER_BATCH)]


def policy_of(model: nn.Module) -> ModelPolicy | None:
    """The policy that a model's protected modules share."""
    policies = (module.__dict__.get("_bninv_policy") for module in model.modules())
    return next((policy for policy in policies if policy is not None), None)
