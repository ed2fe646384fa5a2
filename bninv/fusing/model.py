"""Fusing in a whole model, and what came of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

from torch import nn

from bninv.dispatch.blocks import PROGRAMS
from bninv.fusing.left_out import LeftOut
from bninv.fusing.program import may_begin_chain
from bninv.fusing.programs import Programs
from bninv.fusing.structure import Structure, tensors
from bninv.modules.base import Patched, forward_owner, stock_class
from bninv.modules.exact import is_exact


class Unfused(LeftOut):
    """A block that runs call by call, or a part of it, although it may have chains."""


@dataclass
class Fusion:
    """What `bninv.fusion` finds in a patched model."""

    chains: int = 0  # that run as one operator each
    calls: int = 0  # in those chains
    blocks: int = 0  # that have some
    unfused: list[Unfused] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.calls} calls run as {self.chains} operators"
        if not self.unfused:
            return text
        blocks = "1 block runs" if len(self.unfused) == 1 else f"{len(self.unfused)} blocks run"
        return f"{text}; {blocks} unfused"

    def reasons(self) -> dict[tuple[str, str], list[str]]:
        """The names of the blocks that run unfused, by their kind and the reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for block in self.unfused:
            found.setdefault((block.kind, block.reason), []).append(block.name)
        return found


def fuse_chains(model: nn.Module, *, fuse: bool, trust: tuple[str, ...]) -> None:
    """Give all blocks of a patched model programs to run, or take them away.

    Args:
        trust: the names of packages whose code is traced besides torch's, torchvision's and timm's.
    """
    for module in model.modules():
        if not (isinstance(module, Patched) and module.fuses):
            continue
        # A container's chains begin among its own layers.
        of_layers = is_exact(forward_owner(module), module)
        if fuse and (not of_layers or any(map(may_begin_chain, module.children()))):
            module.__dict__[PROGRAMS] = Programs(module, trust)
        else:
            module.__dict__.pop(PROGRAMS, None)


def fusion(model: nn.Module) -> Fusion:
    """How many calls of a patched model run as fewer operators, and which blocks run unfused.

    Of a model that has not run yet each block is looked at as if it were handed one tensor for each
    argument that it requires. Empty for a model that is not patched, or with `fuse=False`.
    """
    found = Fusion()
    heads: set[nn.Module] = set()
    for name, module in model.named_modules():
        programs: Programs | None = vars(module).get(PROGRAMS)
        if programs is None:
            continue
        outcomes = programs.outcomes(_tensors_for(module))
        reason = next((o.reason for o in reversed(outcomes) if o.reason is not None), None)
        if reason is not None and any(map(may_begin_chain, module.children())):
            kind = stock_class(module).__name__ if isinstance(module, Patched) else ""
            found.unfused.append(Unfused(name, kind, reason))
        best = max(outcomes, key=lambda outcome: len(outcome.chains))
        new = [chain for chain in best.chains if chain.head not in heads]
        heads.update(chain.head for chain in new)
        found.blocks += bool(new)
        found.chains += len(new)
        found.calls += sum(chain.calls for chain in new)
    return found


def _tensors_for(module: nn.Module) -> Structure:
    """One tensor for each argument that the module's forward requires."""
    parameters = inspect.signature(module.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return tensors(max(len(required), 1))
