"""An audit: a record's result computed again, on whatever is at hand, and compared bit by bit."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bninv._shown import shown
from bninv._structure import leaves, map_tensors
from bninv._version import CONTRACT_VERSION
from bninv.auditing.layers import LayerDigest, run_layers
from bninv.auditing.recording import Record, weight_digests
from bninv.checking.bits import Difference, difference, digest
from bninv.checking.inputs import call_model
from bninv.patching import patch
from bninv.precision import TENSOR_CONTRACT_VERSION, arithmetic


@dataclass
class LayerChange:
    """A layer or an output that has other bits than in the record.

    `differing` of `elements` and the distances are None where the record has its digest alone;
    `max_ulp` also where a number stands against a NaN.
    """

    name: str
    kind: str = ""
    call: int = 0
    differing: int | None = None
    elements: int | None = None
    max_abs: float | None = None
    max_ulp: int | None = None


@dataclass
class Audit:
    """What an audit found.

    Args:
        equal: whether outputs, layers and weights have the record's bits, and the record agrees
            with itself.
        arithmetic: the record's.
        device: where it was computed again; `recorded_on` where the record was made.
        weights: names in the state dict whose tensors are others, or that one side lacks.
        layers: how many calls of modules were compared; `first` is the first that differs.
        outputs: those that differ.
        broken: what in the record contradicts itself: somebody has changed the file.
    """

    equal: bool
    arithmetic: str
    device: str
    recorded_on: str
    layers: int
    weights: list[str] = field(default_factory=list)
    first: LayerChange | None = None
    outputs: list[LayerChange] = field(default_factory=list)
    broken: str = ""

    def to_json(self, indent: int | None = 2) -> str:
        """The result as JSON text; infinite distances become null."""
        return json.dumps(_finite(asdict(self)), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        from bninv.report.audit import to_text

        return to_text(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from bninv.report.audit import lines

        yield from lines(self)


def audit(
    found: Record | Path | str,
    model: nn.Module,
    device: torch.device | str = "cpu",
) -> Audit:
    """Compute a record's result again with `model`, and compare every bit.

    A result that a GPU's tensor cores gave is computed on a CPU by R9's arithmetic of that class,
    slowly; or on a GPU of the class.

    Args:
        found: a record, or the file of one.
        model: the same model, stock or patched; it is not touched, a copy runs.
        device: where.

    Returns:
        Whether it is equal, or what differs first.

    Raises:
        ValueError: the record cannot be read, was made under other versions of the rules, or asks
            for arithmetic that the device does not have.
    """
    if not isinstance(found, Record):
        found = Record.load(found)
    if not isinstance(model, nn.Module):
        raise ValueError(f"`model` is {shown(model)}; it may be a torch.nn.Module")
    place = torch.device(device)
    precision = _precision_for(found, place)
    copied = copy.deepcopy(model).eval()
    floating = next((t for t in copied.state_dict().values() if t.is_floating_point()), None)
    dtype = getattr(torch, found.dtype)
    if floating is not None and dtype.is_floating_point and floating.dtype != dtype:
        copied = copied.to(dtype)
    again = patch(copied.to(place), precision=precision)
    inputs = map_tensors(lambda t: t.to(place), found.inputs)

    with torch.no_grad():
        outputs = dict(leaves(call_model(again, inputs)))
    layers, seen = run_layers(again, inputs, values=found.values is not None)
    result = Audit(
        equal=False,
        arithmetic=found.arithmetic,
        device=str(place),
        recorded_on=found.device,
        layers=len(layers),
        weights=_other_weights(found, again),
        first=_first_change(found, layers, seen),
        outputs=_other_outputs(found, outputs),
        broken=_contradiction(found),
    )
    result.equal = not (result.weights or result.first or result.outputs or result.broken)
    return result


def _precision_for(found: Record, place: torch.device) -> Any:
    """What `patch` is to be told so that the record's arithmetic runs on a device."""
    if found.contract_version != CONTRACT_VERSION:
        raise ValueError(
            f"the record's contract version is {found.contract_version}; it may be "
            f"{CONTRACT_VERSION}, which this bninv computes"
        )
    if found.arithmetic == "ieee":
        return "ieee"
    if found.tensor_contract_version != TENSOR_CONTRACT_VERSION:
        raise ValueError(
            f"the record's version of R9 is {found.tensor_contract_version}; it may be "
            f"{TENSOR_CONTRACT_VERSION}, which this bninv computes"
        )
    if place.type == "cuda" and arithmetic(place) != found.arithmetic:
        raise ValueError(
            f"`device` is {place}, whose tensor cores are {arithmetic(place)}; the record's are "
            f"{found.arithmetic}: it may be 'cpu', or a GPU of that class"
        )
    return found.arithmetic


def _other_weights(found: Record, model: nn.Module) -> list[str]:
    own = weight_digests(model)
    names = dict.fromkeys((*found.weights, *own))
    return [name for name in names if found.weights.get(name) != own.get(name)]


def _first_change(
    found: Record, layers: list[LayerDigest], seen: list[list[Tensor]] | None
) -> LayerChange | None:
    for index, (before, after) in enumerate(zip(found.layers, layers, strict=False)):
        if before == after:
            continue
        change = LayerChange(after.name, after.kind, after.call)
        if seen is not None and found.values is not None and before.tensors == after.tensors:
            _measure(change, found.values[index], seen[index])
        return change
    if len(found.layers) != len(layers):
        longer = max(found.layers, layers, key=len)
        extra = longer[min(len(found.layers), len(layers))]
        return LayerChange(extra.name, extra.kind, extra.call)
    return None


def _other_outputs(found: Record, outputs: dict[str, Tensor]) -> list[LayerChange]:
    changes = []
    for name in dict.fromkeys((*found.outputs, *outputs)):
        before, after = found.outputs.get(name), outputs.get(name)
        change = LayerChange(name)
        if before is None or after is None:
            changes.append(change)
            continue
        if digest([before]) != digest([after]):
            _measure(change, [before], [after])
            changes.append(change)
    return changes


def _measure(change: LayerChange, before: list[Tensor], after: list[Tensor]) -> None:
    shapes = [[(t.shape, t.dtype) for t in side] for side in (before, after)]
    if shapes[0] != shapes[1]:
        return
    parts: list[Difference] = [
        difference(a, b.detach().cpu()) for a, b in zip(before, after, strict=True)
    ]
    change.differing = sum(int(part.moved.sum()) for part in parts)
    change.elements = sum(part.moved.size for part in parts)
    change.max_abs = max(part.max_abs for part in parts)
    steps = [part.max_ulp for part in parts]
    change.max_ulp = None if None in steps else max(s for s in steps if s is not None)


def _contradiction(found: Record) -> str:
    """What in a record does not fit the rest of it."""
    if not found.layers or found.layers[-1].digest != digest(list(found.outputs.values())):
        return "its outputs are not those of the digest that was taken of them"
    for index, outputs in enumerate(found.values or ()):
        if digest(outputs) != found.layers[index].digest:
            name = found.layers[index].name or "the model itself"
            return f"the values of {name} are not those of the digest that was taken of them"
    return ""


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value in (float("inf"), -float("inf")) else value
