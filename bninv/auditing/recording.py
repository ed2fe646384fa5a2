"""A record: what a patched model gave, and everything that its bits depend on, in one file.

The file is safetensors: inputs and outputs as they are, and in its metadata the arithmetic, a
digest of every weight, and one of what every layer gave, in the order of the calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bninv._shown import shown
from bninv._structure import leaves, map_tensors, tensors
from bninv._torch import any_autocast
from bninv._version import CONTRACT_VERSION
from bninv.auditing.layers import LayerDigest, run_layers
from bninv.auditing.structure import from_plain, to_plain
from bninv.checking.bits import digest
from bninv.checking.inputs import call_model, first
from bninv.dispatch.modules import policy_of
from bninv.precision import TENSOR_CONTRACT_VERSION, meaning

FORMAT = "bninv record 1"


@dataclass
class Record:
    """What a patched model gave, and what its bits depend on.

    Args:
        arithmetic: 'ieee', 'tensor-A' or 'tensor-H': by which the model's products were computed.
        contract_version, tensor_contract_version: of the rules, and of R9.
        device, dtype: where, and in which type, as text; neither enters the bits.
        inputs: what the model was called with, on the CPU.
        outputs: its tensors by their place in what it returned, on the CPU.
        weights: a digest of every entry of the model's state dict.
        layers: what every module gave, in the order in which the calls returned.
        values: the layers' outputs themselves, if they were asked for.
        state: tensors of the state dict that cannot be had from the model's source, such as
            statistics that were measured on the spot.
        source: where the model is from, for a command that makes it again.
    """

    arithmetic: str
    contract_version: int
    tensor_contract_version: int
    device: str
    dtype: str
    inputs: Any
    outputs: dict[str, Tensor]
    weights: dict[str, str]
    layers: list[LayerDigest]
    values: list[list[Tensor]] | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save_file

        held: dict[str, Tensor] = {}
        inputs = to_plain(self.inputs, held, "input")
        for group, named in (("output", self.outputs), ("state", self.state)):
            held.update({f"{group}:{name}": tensor for name, tensor in named.items()})
        for index, outputs in enumerate(self.values or ()):
            held.update({f"value:{index}:{i}": t for i, t in enumerate(outputs)})
        facts = {
            "arithmetic": self.arithmetic,
            "contract_version": self.contract_version,
            "tensor_contract_version": self.tensor_contract_version,
            "device": self.device,
            "dtype": self.dtype,
            "inputs": inputs,
            "outputs": list(self.outputs),
            "weights": self.weights,
            "layers": [asdict(layer) for layer in self.layers],
            "has_values": self.values is not None,
            "source": self.source,
        }
        contiguous = {name: t.contiguous().clone() for name, t in held.items()}
        save_file(contiguous, str(path), metadata={"format": FORMAT, "facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path | str) -> Record:
        """Read what `save` wrote.

        Raises:
            ValueError: it is no such file, or of another version of the format.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path}: not a record that can be read ({error})") from None
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{path}: its format is {shown(metadata.get('format'))}; it may be {FORMAT!r}, "
                "which bninv.record and `bninv check --save` write"
            )
        facts = json.loads(metadata["facts"])
        layers = [LayerDigest(**layer) for layer in facts.pop("layers")]
        inputs, names = from_plain(facts.pop("inputs"), held), facts.pop("outputs")
        values = None
        if facts.pop("has_values"):
            values = [
                [held[f"value:{index}:{i}"] for i in range(layer.tensors)]
                for index, layer in enumerate(layers)
            ]
        state = {n[6:]: t for n, t in held.items() if n.startswith("state:")}
        outputs = {name: held[f"output:{name}"] for name in names}
        facts |= {"inputs": inputs, "outputs": outputs, "layers": layers}
        return cls(**facts, values=values, state=state)


def record(
    model: nn.Module,
    inputs: Any,
    path: Path | str | None = None,
    *,
    values: bool = False,
    source: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Record:
    """Run a patched model, and keep what is needed to compute its result again elsewhere.

    Its bits do not depend on the batch, the machine or the device, so whoever has the weights can
    run it again and compare: `bninv.audit`, or `bninv audit FILE`. The model runs twice, without
    gradients.

    Args:
        model: patched, in eval mode; its products by the precision that `patch` was told.
        inputs: as for `bninv.check`: a tensor, a tuple of arguments, a dict of keyword arguments.
        path: where to write the record; None: nowhere.
        values: keep what every layer gave, and not just its digest: an audit then says how far
            apart the first layer that differs is. As much memory as all activations.
        source: kept as it is, for whoever makes the model again; plain data for JSON.
        state: tensors of the state dict to keep, for one that the source alone does not give.

    Raises:
        ValueError: the model is not patched, or in training mode; autocast is on; the inputs hold
            what is neither tensors nor plain data.
    """
    policy = policy_of(model)
    if policy is None:
        raise ValueError(f"`model` is a stock {type(model).__name__}; it may be a patched one")
    if any(module.training for module in model.modules()):
        raise ValueError("`model` is in training mode, in part or whole; it may be in eval mode")
    if any_autocast():
        raise ValueError("autocast is on: a record holds no trace of that; call model.half() first")
    if not tensors(inputs):
        raise ValueError(f"`inputs` is {shown(inputs)}; it may hold tensors")
    kept = map_tensors(lambda t: t.detach().to("cpu", copy=True), inputs)
    to_plain(kept, {}, "input")  # before the long run
    with torch.no_grad():
        output = call_model(model, inputs)
    outputs = {name: tensor.detach().cpu() for name, tensor in leaves(output)}
    layers, seen = run_layers(model, inputs, values=values)
    if not layers or layers[-1].digest != digest(list(outputs.values())):
        raise RuntimeError(
            "the model gave other bits when it ran a second time: something in it is neither "
            "covered nor repeatable (bninv.uncovered(model), bninv.check)"
        )
    device = first(inputs).device
    found = Record(
        arithmetic=meaning(policy.precision, device),
        contract_version=CONTRACT_VERSION,
        tensor_contract_version=TENSOR_CONTRACT_VERSION,
        device=str(device),
        dtype=str(first(inputs).dtype).removeprefix("torch."),
        inputs=kept,
        outputs=outputs,
        weights=weight_digests(model),
        layers=layers,
        values=seen,
        state={name: t.detach().cpu() for name, t in (state or {}).items()},
        source=dict(source or {}),
    )
    if path is not None:
        found.save(path)
    return found


def weight_digests(model: nn.Module) -> dict[str, str]:
    """A digest of every entry of a model's state dict, whatever its strides and device."""
    state = model.state_dict()
    return {name: digest([t]) for name, t in state.items() if isinstance(t, Tensor)}
