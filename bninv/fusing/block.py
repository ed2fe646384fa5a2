"""From a block to its program, or to the reason why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from bninv.fusing.chains import find_chains
from bninv.fusing.errors import Unfusable
from bninv.fusing.generate import generate
from bninv.fusing.programs import Program
from bninv.fusing.record import record
from bninv.fusing.recording import Recording
from bninv.fusing.structure import Structure
from bninv.nn.base import Patched, stock_class


class FusedChain(NamedTuple):
    head: nn.Module  # the layer that it begins with
    calls: int


@dataclass(frozen=True)
class FusedBlock:
    """What became of a block."""

    program: Program | None = None
    chains: tuple[FusedChain, ...] = ()
    reason: str | None = None  # why it runs unfused, or a part of it


def fuse_block(block: nn.Module, structure: Structure) -> FusedBlock:
    """A block's program for arguments of that structure; none where there is no chain."""
    try:
        recording = record(block, structure)
    except Unfusable as error:
        return FusedBlock(reason=str(error))
    try:
        return _fuse(block, recording)
    except Exception as error:  # of bninv's own: the block's code is there in any case
        return FusedBlock(reason=f"bninv failed to fuse it: {type(error).__name__}: {error}")


def _fuse(block: nn.Module, recording: Recording) -> FusedBlock:
    chains = find_chains(recording)
    reason = None
    if recording.hooked:
        reason = f"its {'.'.join(recording.hooked[0])} carries hooks"
    elif not chains:
        return FusedBlock()
    stock: Any = stock_class(block) if isinstance(block, Patched) else type(block)
    program = generate(recording, chains, stock.forward.__code__)
    heads = (recording.members[chain.head.meta["path"]].module for chain in chains)
    counts = (len(chain.nodes) for chain in chains)
    return FusedBlock(program, tuple(map(FusedChain, heads, counts)), reason)


def compile_block(block: nn.Module, structure: Structure) -> Program | None:
    """The program alone, as Programs makes it."""
    return fuse_block(block, structure).program
