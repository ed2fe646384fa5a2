"""Reads a GPU's machine code: disassembles it, finds loops, and follows paths through branches."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


def find_nvdisasm(toolkit: Path) -> Path:
    """The disassembler. The toolkit's wheels lack it; triton, which torch requires, has it."""
    candidates = [toolkit / "bin" / "nvdisasm"]
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidates.append(Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm")
    on_path = shutil.which("nvdisasm")
    candidates += [Path(on_path)] if on_path else []
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError("nvdisasm: neither in the CUDA toolkit nor in triton nor on PATH")


def disassemble(cubin: Path, toolkit: Path) -> str:
    # What it warns of on stderr, the layout of a cubin newer than itself, does no harm here.
    command = [find_nvdisasm(toolkit), "-c", cubin]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Instruction:
    predicate: str  # "@!P0", or ""
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        return self.opcode.split(".")[0]

    @property
    def target(self) -> str | None:
        """The label that it may jump to."""
        match = re.search(r"`\((\.L\w+)\)", self.operands)
        return match.group(1) if match and self.name == "BRA" else None

    @property
    def falls_through(self) -> bool:
        """Whether the next instruction may follow."""
        conditional = bool(self.predicate) or re.match(r"!?U?P\d", self.operands) is not None
        return conditional or self.name not in ("BRA", "EXIT", "RET")


@dataclass
class Block:
    """Instructions without a branch among them."""

    instructions: Sequence[Instruction]
    successors: list[int]


@dataclass
class Kernel:
    """A kernel without the subroutines (rare cases of divisions) that follow it in its section."""

    name: str  # mangled
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)  # -> index of the instruction

    @cached_property
    def blocks(self) -> list[Block]:
        code = self.instructions
        starts = {0, *self.labels.values()}
        starts |= {i + 1 for i, x in enumerate(code) if x.target or not x.falls_through}
        ordered = sorted(s for s in starts if s < len(code))
        number = {start: n for n, start in enumerate(ordered)}
        blocks = []
        for start, end in zip(ordered, [*ordered[1:], len(code)], strict=True):
            last = code[end - 1]
            after = [self.labels[last.target]] if last.target in self.labels else []
            after += [end] if last.falls_through else []
            blocks.append(Block(code[start:end], [number[a] for a in after if a in number]))
        return blocks

    @cached_property
    def back_edges(self) -> set[tuple[int, int]]:
        """Edges to a block that is being visited, in a depth-first search."""
        found, done, path = set(), set(), [0]
        remaining = {0: iter(self.blocks[0].successors)}
        while path:
            following = next(remaining[path[-1]], None)
            if following is None:
                done.add(path.pop())
            elif following in remaining and following not in done:
                found.add((path[-1], following))
            elif following not in done:
                remaining[following] = iter(self.blocks[following].successors)
                path.append(following)
        return found

    def loops(self) -> dict[int, set[int]]:
        """Each loop's blocks by its first one: those from which it can be repeated."""
        before: dict[int, list[int]] = {}
        for n, block in enumerate(self.blocks):
            for after in block.successors:
                before.setdefault(after, []).append(n)
        found: dict[int, set[int]] = {}
        for latch, header in self.back_edges:
            members = found.setdefault(header, {header})
            pending = [latch]
            while pending:
                n = pending.pop()
                if n not in members:
                    members.add(n)
                    pending += before.get(n, [])
        return found

    def best_path(
        self,
        start: int,
        ends: Collection[int],
        within: Collection[int],
        weight: Callable[[Block], tuple[int, ...]],
    ) -> list[Instruction] | None:
        """The instructions of the path with the greatest sum of weights; no loop is repeated."""
        best: dict[int, tuple[tuple[int, ...], list[int]] | None] = {}
        pending = [start]
        while pending:
            n = pending[-1]
            onward = [
                s for s in self.blocks[n].successors
                if s in within and (n, s) not in self.back_edges
            ]  # fmt: skip
            unknown = [s for s in onward if s not in best]
            if unknown:
                pending += unknown
                continue
            pending.pop()
            own = weight(self.blocks[n])
            choices = [(own, [n])] if n in ends else []
            for following in (best[s] for s in onward):
                if following is not None:
                    total = tuple(a + b for a, b in zip(own, following[0], strict=True))
                    choices.append((total, [n, *following[1]]))
            best[n] = max(choices) if choices else None
        chosen = best[start]
        return [i for n in chosen[1] for i in self.blocks[n].instructions] if chosen else None


def parse(text: str) -> list[Kernel]:
    """The kernels of nvdisasm's output."""
    kernels: list[Kernel] = []
    inside = False
    for line in text.splitlines():
        if match := re.match(r"\.text\.(\S+):", line):
            kernels.append(Kernel(match.group(1)))
            inside = True
        elif line.startswith("$"):
            inside = False
        elif inside and (match := re.match(r"(\.L\w+):", line)):
            kernels[-1].labels[match.group(1)] = len(kernels[-1].instructions)
        elif inside and (
            match := re.match(
                r"\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+)?\s*([A-Z][\w.]*)\s*(.*?)\s*;", line
            )
        ):
            kernels[-1].instructions.append(Instruction(match.group(1) or "", *match.groups()[1:]))
    return kernels
