"""A block's calls, as a graph of torch.fx, and all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.fx import Graph, Proxy

from bninv.fusing.code import is_trusted
from bninv.fusing.errors import Unfusable
from bninv.fusing.proxies import BlockTracer

Path = tuple[str, ...]  # names of modules, from the block down; () is the block itself

MISSING = object()
# The part of a module that is its normalization, without what the module does after it.
NORMALIZE = "normalize"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module is more than calling its class's forward."""
    own = vars(module)
    return any(own[name] for name in HOOKS) or "forward" in own


@dataclass
class Member:
    """A module that the code looked at; with `whole` the program does what calling it did."""

    module: nn.Module
    whole: bool = False
    children: tuple[str, ...] | None = None  # their names, where the code went over all of them


class Recording:
    """Holds while its members, attributes and globals are what they were."""

    def __init__(self, block: nn.Module) -> None:
        self.graph = Graph()
        self.tracer = BlockTracer(self.graph)
        self.members: dict[Path, Member] = {(): Member(block)}  # outer ones first
        self.attributes: dict[tuple[Path, str], Any] = {}
        self.hooked: list[Path] = []  # modules that carry hooks
        self.nothing: list[tuple[Path, str]] = []  # parameters and modules that were None
        self.inherited: dict[tuple[Path, str], Any] = {}  # constants of classes
        self.globals_read: list[tuple[dict[str, Any], str, Any]] = []
        self.sites: dict[Path, Any] = {}
        self._lent: list[tuple[str, list[Any], list[Any]]] = []
        classes = {cls for module in block.modules() for cls in type(module).__mro__}
        self.has_foreign_code = not all(is_trusted(cls) for cls in classes - {object})

    def member(self, path: Path, module: nn.Module) -> Member:
        return self.members.setdefault(path, Member(module))

    def whole(self, path: Path) -> None:
        self.members[path].whole = True

    def placeholder(self, place: str) -> Proxy:
        name = place.replace("[", "_").replace("]", "")
        return self._proxy("placeholder", name, (), {}, place=place)

    def parameter(self, path: Path, name: str) -> Proxy:
        return self._proxy("get_attr", ".".join((*path, name)), (), {}, path=path, attribute=name)

    def call_module(
        self, path: Path, args: Any, kwargs: Any, *, part: str = "", known: bool = False
    ) -> Proxy:
        """`known`: the result is one tensor."""
        target = ".".join(path)
        return self._proxy("call_module", target, args, kwargs, path=path, part=part, tensor=known)

    def _proxy(self, kind: str, target: str, args: Any, kwargs: Any, **meta: Any) -> Proxy:
        node = self.tracer.create_proxy(kind, target, args, kwargs).node
        node.meta.update(meta)
        return self.tracer.proxy(node)

    def lend(self, name: str, value: list[Any]) -> list[Any]:
        """A copy of a list for the code to read."""
        copy = list(value)
        self._lent.append((name, copy, list(value)))
        return copy

    def is_lent(self, value: Any) -> bool:
        return any(value is copy for _, copy, _ in self._lent)

    def take_back(self) -> None:
        """Raise Unfusable if the code has changed a list that it was lent."""
        for name, copy, value in self._lent:
            if len(copy) != len(value) or any(a is not b for a, b in zip(copy, value, strict=True)):
                raise Unfusable(f"it changes the list {name}")

    # ---- Taking back -----------------------------------------------------------------------------

    def mark(self) -> tuple[Any, ...]:
        members = {path: Member(m.module, m.whole, m.children) for path, m in self.members.items()}
        lengths = len(self.graph.nodes), len(self.nothing), len(self.hooked)
        return members, dict(self.attributes), *lengths

    def back_to(self, mark: tuple[Any, ...]) -> None:
        self.members, self.attributes, nodes, nothing, hooked = mark
        for node in reversed(list(self.graph.nodes)[nodes:]):
            self.graph.erase_node(node)
        del self.nothing[nothing:], self.hooked[hooked:]
        self.sites = {path: s for path, s in self.sites.items() if path in self.members}
