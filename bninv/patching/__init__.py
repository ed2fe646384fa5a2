"""Makes a model batch-invariant in place, and stock again.

A module is patched by changing its class to one made from bninv's mixin and its own class. Its
identity, parameters, hooks, `state_dict` keys and `isinstance` answers stay what they were, and it
can be copied, pickled and compiled.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from bninv._arguments import Precision, need_precision
from bninv.building import extension
from bninv.dispatch import NotInvariantError, NotInvariantWarning, UncoveredCall
from bninv.dispatch.blocks import PROGRAMS
from bninv.dispatch.modules import ModelPolicy, policy_of
from bninv.dispatch.uninitialized import need_values
from bninv.fusing import fuse_chains
from bninv.modules.base import Patched, reset_class, set_class
from bninv.modules.training import differing
from bninv.patching.plan import FilterFn, Unpatched, plan_of
from bninv.patching.products import SpeedWarning, slow_halves

ModelT = TypeVar("ModelT", bound=nn.Module)


def patch(
    model: ModelT,
    *,
    filter_fn: FilterFn | None = None,
    strict: bool = False,
    fuse: bool = True,
    trust: Sequence[str] = (),
    precision: Precision = "ieee",
) -> ModelT:
    """Make `model` batch-invariant in place and return it.

    In eval mode the same sample then gives the same output bits at any batch size, at any position,
    and beside any other samples, whichever method of whichever module the model is entered by. So
    it does in training mode while gradients are disabled, but for what differs there, such as
    BatchNorm and dropout, of which a warning tells. In training mode with gradients enabled a
    patched module does what it did before.
    Patching twice is patching once. Convolution and linear weights keep their values but are stored
    in the (r, s, c, o) order that the kernels read, so activations become channels_last after the
    first convolution.

    Args:
        model: any module; only the modules in it are changed.
        filter_fn: `filter_fn(module, qualified_name) -> bool` picks the modules to patch; the
            others stay stock and are not reported.
        strict: raise instead of warning.
        fuse: run convolution, BatchNorm, addition and activation that follow each other as one
            operator, and a linear layer with its activation. The bits are the same either way.
        trust: packages, or modules, whose blocks are fused besides those of torch, torchvision and
            timm: `("my_package",)`, `("__main__",)`. Such a block's forward is run on its modules'
            attributes once, and may run no more: what it does besides computing its result (prints,
            counters, random numbers, globals that change) happens once or not at all, and what it
            asks for besides its arguments, attributes, the grad mode and autocast (globals, the
            environment, other switches of PyTorch's) is asked for once.
        precision: of convolutions, linear layers and products of matrices. 'ieee', rule R1, has the
            same bits on every device. 'tensor', rule R9, runs them on a GPU's tensor cores, several
            times faster: float32 operands rounded to TF32, half types as they are stored; the same
            bits on all GPUs of a class (`bninv.arithmetic`), and on a CPU, slowly, as 'tensor-A' or
            'tensor-H', or within `bninv.emulate`. `bninv.products` lists which layers R9 reaches.
            Patching again sets it anew.

    Raises:
        ValueError: `precision` is something else.
        NotInvariantError: `strict`, and something cannot be made invariant; or a lazy module in
            `model` has not run yet.
        TypeError: `model` is no module, or `trust` one name by itself.
        bninv.BuildError: the operators cannot be compiled here.

    Warns:
        NotInvariantWarning: once, listing by qualified name and reason what stays stock; once,
            listing what is in training mode and would compute otherwise than in eval mode.
        SpeedWarning: half-precision weights on a GPU whose tensor cores `precision` leaves idle.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` is {type(model).__name__}; it may be a torch.nn.Module")
    if isinstance(trust, str):
        raise TypeError(f"`trust` is {trust!r}; it may be a sequence of names, as in ({trust!r},)")
    need_precision(precision)
    need_values(model, filter_fn)
    extension.load()
    chosen, left = plan_of(model, filter_fn)
    if left and strict:
        raise NotInvariantError(_listing(left))
    policy = policy_of(model) or ModelPolicy()
    # A part that is strict already makes the whole so.
    policy.strict = strict or (policy.strict and not isinstance(model, Patched))
    policy.precision = precision
    for unpatched in left:
        policy.foresee(unpatched.scripted)
    for module, kind in chosen:
        set_class(module, kind)
    for module in model.modules():
        if isinstance(module, Patched):
            module._bninv_policy = policy
            module.lay_out()  # also where a layout was lost since the module was patched
    fuse_chains(model, fuse=fuse, trust=tuple(trust))
    if left:
        warnings.warn(_listing(left), NotInvariantWarning, stacklevel=2)
    training = differing(model)
    if training:
        warnings.warn(_training(training), NotInvariantWarning, stacklevel=2)
    if precision == "ieee":
        hint = slow_halves(model)
        if hint:
            warnings.warn(hint, SpeedWarning, stacklevel=2)
    return model


def unpatch(model: ModelT) -> ModelT:
    """Undo `patch` in place and return `model`: stock classes, and the parameters' former strides.

    The parameters stay the same objects, so what was loaded or changed since is kept.
    """
    for module in model.modules():
        if isinstance(module, Patched):
            module.restore_layout()
            for name in ("_bninv_policy", PROGRAMS):
                module.__dict__.pop(name, None)
            reset_class(module)
    return model


def uncovered(model: nn.Module) -> list[UncoveredCall]:
    """The operators without a row that a patched model's own code has called so far, and the
    TorchScript functions that it refers to, whose calls are not seen (their count is 0).

    Else empty for a model that has not run, or is not patched. `bninv.check` looks at every
    operator.
    """
    policy = policy_of(model)
    return policy.uncovered if policy is not None else []


def survey(model: nn.Module, *, filter_fn: FilterFn | None = None) -> list[Unpatched]:
    """What `patch` would leave stock, or has left, with the reasons; changes nothing."""
    return plan_of(model, filter_fn)[1]


def _shown(names: list[str]) -> str:
    names = [name or "(the model itself)" for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _training(names: list[str]) -> str:
    return (
        "these modules are in training mode, in which they draw random numbers or look at the "
        f"whole batch: {_shown(names)}. Call model.eval()"
    )


def _listing(left: list[Unpatched]) -> str:
    """All that is left, by what it means; those with the same kind and reason together."""
    parts = []
    for what in dict.fromkeys(u.what for u in left):
        groups = Counter((u.kind, u.reason) for u in left if u.what == what)
        lines = [f"these modules {what}:"]
        for (kind, reason), count in groups.items():
            names = [u.name for u in left if (u.kind, u.reason) == (kind, reason)]
            lines.append(f"  {count} x {kind}: {reason}: {_shown(names)}")
        parts += lines
    return "\n".join(parts)


__all__ = [
    "NotInvariantError",
    "NotInvariantWarning",
    "SpeedWarning",
    "Unpatched",
    "patch",
    "survey",
    "uncovered",
    "unpatch",
]
