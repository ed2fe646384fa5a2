"""Makes a model batch-invariant in place, and stock again.

A module is patched by changing its class to one made from bninv's mixin and its own class. Its
identity, parameters, hooks, `state_dict` keys and `isinstance` answers stay what they were, and it
can be copied, pickled and compiled.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from bninv.building import extension
from bninv.dispatch import (
    Excluded,
    NotInvariantError,
    NotInvariantWarning,
    Protected,
    SeenByCalls,
    UncoveredCall,
    unprotected_nodes,
)
from bninv.dispatch.blocks import PROGRAMS
from bninv.dispatch.modules import ModelPolicy, policy_of
from bninv.dispatch.scripted import scripted_calls
from bninv.dispatch.uninitialized import need_values
from bninv.fusing import fuse_chains
from bninv.fusing.left_out import LeftOut
from bninv.modules.base import Patched, forward_owner, reset_class, set_class, stock_class
from bninv.modules.entry import own_attributes, own_methods
from bninv.modules.exact import is_exact, is_seen_by_its_calls
from bninv.modules.training import differing
from bninv.operators import KINDS

ModelT = TypeVar("ModelT", bound=nn.Module)
FilterFn = Callable[[nn.Module, str], bool]


_NO_FORWARD = "torch.nn.modules.module.Module"  # that of nn.ModuleList and its like


@dataclass(frozen=True)
class Unpatched(LeftOut):
    """A module that `patch` leaves stock although it computes something, or of whose calls it
    cannot see some: `scripted` has these, with the line at which the code begins that makes them.
    """

    scripted: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)


def patch(
    model: ModelT,
    *,
    filter_fn: FilterFn | None = None,
    strict: bool = False,
    fuse: bool = True,
    trust: Sequence[str] = (),
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

    Raises:
        NotInvariantError: `strict`, and something cannot be made invariant; or a lazy module in
            `model` has not run yet.
        TypeError: `model` is no module, or `trust` one name by itself.
        bninv.BuildError: the operators cannot be compiled here.

    Warns:
        NotInvariantWarning: once, listing by qualified name and reason what stays stock; once,
            listing what is in training mode and would compute otherwise than in eval mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` is {type(model).__name__}; it may be a torch.nn.Module")
    if isinstance(trust, str):
        raise TypeError(f"`trust` is {trust!r}; it may be a sequence of names, as in ({trust!r},)")
    need_values(model, filter_fn)
    extension.load()
    chosen, left = _plan(model, filter_fn)
    if left and strict:
        raise NotInvariantError(_listing(left))
    policy = policy_of(model) or ModelPolicy()
    # A part that is strict already makes the whole so.
    policy.strict = strict or (policy.strict and not isinstance(model, Patched))
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
    return _plan(model, filter_fn)[1]


def _plan(
    model: nn.Module, filter_fn: FilterFn | None
) -> tuple[list[tuple[nn.Module, type[Patched]]], list[Unpatched]]:
    """The modules to patch, each with its kind, and those that cannot be."""
    chosen: list[tuple[nn.Module, type[Patched]]] = []
    left: list[Unpatched] = []
    protected: list[str] = []
    whole = _device_and_dtype(model)
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if isinstance(module, Patched):
            left += _unseen(name, module)
            continue
        if isinstance(module, ParametrizationList):
            # Makes a layer's weight from other parameters: no sample is in it.
            inside.update(module.modules())
            chosen.append((module, Excluded))
            continue
        if filter_fn is not None and not filter_fn(module, name):
            if any(not outer or name.startswith(f"{outer}.") for outer in protected):
                chosen.append((module, Excluded))
            continue
        kind, reason = _kind_of(module, whole)
        if reason is not None:
            left.append(Unpatched(name, type(module).__name__, reason))
        elif kind is not None:
            chosen.append((module, kind))
            if issubclass(kind, Protected):
                protected.append(name)
                left += _unseen(name, module)
    return chosen, left


def _unseen(name: str, module: Any) -> list[Unpatched]:
    """The module, if its code is protected and calls what runs outside Python."""
    if isinstance(module, Patched) and not isinstance(module, Protected):
        return []
    stock = stock_class(module) if isinstance(module, Patched) else type(module)
    found = scripted_calls(module, own_methods(stock))
    if not found:
        return []
    calls = ", ".join(found)
    reason = f"its code calls {calls}, of TorchScript, whose calls cannot be caught"
    return [Unpatched(name, stock.__name__, reason, found)]


def _kind_of(
    module: nn.Module, whole: tuple[torch.device, torch.dtype]
) -> tuple[type[Patched] | None, str | None]:
    """What patching makes of a module: a kind, or the reason why it stays stock, or neither."""
    owner = forward_owner(module)
    kind = KINDS.get(owner)
    if kind is not None and (kind.refuse(module) is None or not is_seen_by_its_calls(owner)):
        return kind, _why_not(module, kind, whole)
    if is_exact(owner, module):
        # A container, whose layers may be replaced by stock ones, or that has methods besides:
        # nn.Sequential with forward_features.
        runs = owner != _NO_FORWARD and any(True for _ in module.children())
        methods = owner.startswith("torch.nn.") and any(own_attributes(type(module)))
        return (Protected, None) if runs or methods else (None, None)
    by_calls = is_seen_by_its_calls(owner)
    reason = _why_unknown(module, "" if by_calls else owner)
    if reason is not None:
        return None, reason
    return SeenByCalls if by_calls else Protected, None


def _why_not(
    module: nn.Module, kind: type[Patched], whole: tuple[torch.device, torch.dtype]
) -> str | None:
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    if isinstance(module, torch.jit.ScriptModule):
        return "it is a TorchScript module"
    reason = kind.refuse(module)
    if reason is not None:
        return reason
    device, dtype = _device_and_dtype(module, whole)
    # What is on "meta" waits for its values, and for its device.
    if device.type not in ("cpu", "cuda", "meta"):
        return f"it is on {device}, and has no kernel for {device.type} yet"
    if device.type == "cuda" and not extension.has_cuda():
        return (
            f"it is on {device}, and bninv's operators were compiled without CUDA here "
            "(BNINV_BUILD=cuda compiles them with it, or says what is missing)"
        )
    if dtype not in kind.dtypes:
        return f"it is {dtype}, and has no kernel for that dtype yet"
    return None


def _why_unknown(module: nn.Module, owner: str) -> str | None:
    """Why the calls of a module that is neither a kind nor exact cannot be caught, or None."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it is a TorchScript module: its calls cannot be caught"
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    if isinstance(module, torch.fx.GraphModule):
        calls = sorted(set(unprotected_nodes(module.graph)))
        if not calls:
            return None
        return f"it was traced before it was patched, and calls {', '.join(calls)}"
    if owner.startswith("torch.nn.modules."):
        return "it has no kernel yet"
    return None


def _device_and_dtype(
    module: nn.Module, default: tuple[torch.device, torch.dtype] | None = None
) -> tuple[torch.device, torch.dtype]:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.device, tensor.dtype
    return default or (torch.device("cpu"), torch.float32)


def _shown(names: list[str]) -> str:
    names = [name or "(the model itself)" for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _training(names: list[str]) -> str:
    return (
        "these modules are in training mode, in which they draw random numbers or look at the "
        f"whole batch: {_shown(names)}. Call model.eval()"
    )


def _listing(left: list[Unpatched]) -> str:
    """All modules left stock, those with the same kind and reason together."""
    groups = Counter((u.kind, u.reason) for u in left)
    lines = []
    for (kind, reason), count in groups.items():
        names = [u.name for u in left if (u.kind, u.reason) == (kind, reason)]
        lines.append(f"  {count} x {kind}: {reason}: {_shown(names)}")
    stays = "call what stays" if all(u.scripted for u in left) else "stay"
    listed = "\n".join(lines)
    return f"these modules {stays} stock, and their results may move with the batch:\n{listed}"


__all__ = [
    "NotInvariantError",
    "NotInvariantWarning",
    "Unpatched",
    "patch",
    "survey",
    "uncovered",
    "unpatch",
]
