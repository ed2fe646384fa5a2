"""What is to become of each module of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from bninv.building import extension
from bninv.dispatch import Excluded, Protected, SeenByCalls, unprotected_nodes
from bninv.dispatch.scripted import scripted_calls
from bninv.dispatch.type_checks import asked_by_type
from bninv.fusing.left_out import LeftOut
from bninv.modules.base import FLOATING, Patched, forward_owner, stock_class
from bninv.modules.entry import own_attributes, own_methods
from bninv.modules.exact import is_exact, is_seen_by_its_calls
from bninv.operators import KINDS

FilterFn = Callable[[nn.Module, str], bool]
_NO_FORWARD = "torch.nn.modules.module.Module"  # that of nn.ModuleList and its like


@dataclass(frozen=True)
class Unpatched(LeftOut):
    """A module that `patch` cannot make invariant, or not all that it does."""

    what: str = "stay stock, and their results may move with the batch"  # of all such modules
    # TorchScript functions that it calls, with the line at which the code begins that does.
    scripted: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)


def plan_of(
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
    left += _asking(model, chosen)
    return chosen, left


def _unseen(name: str, module: Any) -> list[Unpatched]:
    """The module, if its code is protected and calls what runs outside Python."""
    if isinstance(module, Patched) and not isinstance(module, Protected):
        return []
    stock = _stock(module)
    found = scripted_calls(module, own_methods(stock))
    if not found:
        return []
    calls = ", ".join(found)
    reason = f"its code calls {calls}, of TorchScript, whose calls cannot be caught"
    what = "call what stays stock, and their results may move with the batch"
    return [Unpatched(name, stock.__name__, reason, what, found)]


def _asking(model: nn.Module, chosen: list[tuple[nn.Module, type[Patched]]]) -> Iterator[Unpatched]:
    """The modules whose code asks for the type of layers that are another one's now."""
    patched = {id(module): kind for module, kind in chosen}
    modules = list(model.named_modules())
    changed = {_stock(m) for _, m in modules if id(m) in patched or isinstance(m, Patched)}
    for name, module in modules:
        if not issubclass(patched.get(id(module), type(module)), Protected):
            continue
        stock = _stock(module)
        for cls, place in asked_by_type(own_methods(stock), changed).items():
            reason = (
                f"type(...) of a patched layer is not {cls.__name__} ({place}): isinstance holds"
            )
            what = "ask for the type of patched layers, and may compute something else"
            yield Unpatched(name, stock.__name__, reason, what)


def _stock(module: Any) -> type:
    return stock_class(module) if isinstance(module, Patched) else type(module)


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
    if dtype not in FLOATING:
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
