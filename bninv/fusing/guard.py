"""Whether a block is what it was when it was traced.

Everything is compared by identity, in a few passes that run in C: a value that was set again counts
as another one, and the block is traced again or left to its own code.
"""

from __future__ import annotations

from itertools import chain, repeat
from operator import contains, getitem, is_, itemgetter
from typing import Any

import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SPECIAL = itemgetter("training", *_HOOKS)
_FORWARD = itemgetter("training", *_HOOKS[:2])
_CHILDREN = itemgetter("_modules")
_each = dict.values


def is_special(module: nn.Module) -> bool:
    """Whether calling a module is more, or other, than its class's forward outside training."""
    own = vars(module)
    return any(_SPECIAL(own)) or "forward" in own


def has_hooks(module: nn.Module) -> bool:
    return any(map(vars(module).get, _HOOKS))


def content_of(value: Any) -> list[Any]:
    """What a list, a tuple, a set or a dict holds."""
    return list(chain.from_iterable(value.items()) if isinstance(value, dict) else value)


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


class Guard:
    """What a trace has taken for granted."""

    def __init__(self) -> None:
        self.whole: dict[nn.Module, type] = {}  # neither hooked nor in training
        self.special: dict[nn.Module, None] = {}  # that are, and are called as they are
        self.parents: dict[nn.Module, None] = {}  # of which the children matter
        self.values: dict[tuple[nn.Module, str], Any] = {}
        self.contents: list[Any] = []  # lists and the like, whose items matter too
        self.registered: set[tuple[nn.Module, str, str]] = set()  # parameters: whether None
        self.absent: set[tuple[nn.Module, str]] = set()
        self.inherited: set[tuple[type, str]] = set()

    def close(self) -> None:
        """Note how everything is now."""
        self._whole, self._types = list(self.whole), list(self.whole.values())
        self._classes = [cls for cls, _ in self.inherited]
        self._names = [name for _, name in self.inherited]
        self._inherited = self._inherited_now()
        self._owners = [module for module, _ in self.values]
        self._keys, self._values = [key for _, key in self.values], list(self.values.values())
        self._children, self._rest = self._children_now(), self._rest_now()

    def holds(self) -> bool:
        """Whether it still is so."""
        dicts = list(map(vars, self._whole))
        # Without autograd there is nothing for the other hooks to be called by.
        special = _SPECIAL if torch.is_grad_enabled() else _FORWARD
        try:
            return (
                list(map(type, self._whole)) == self._types
                and not any(chain.from_iterable(map(special, dicts)))
                and not any(map(contains, dicts, repeat("forward")))
                and all(map(is_, map(getitem, map(vars, self._owners), self._keys), self._values))
                and same(self._children_now(), self._children)
                and same(self._inherited_now(), self._inherited)
                and (not self._rest or same(self._rest_now(), self._rest))
            )
        except KeyError:  # an attribute is gone
            return False

    def _children_now(self) -> list[Any]:
        children = list(map(_CHILDREN, map(vars, self.parents)))
        names, modules = chain.from_iterable(children), chain.from_iterable(map(_each, children))
        return [*map(len, children), *names, *modules]

    def _rest_now(self) -> list[Any]:
        """What few blocks have any of."""
        return [
            *map(is_special, self.special),
            *chain.from_iterable(map(content_of, self.contents)),
            *(vars(module)[kind].get(name) is None for module, kind, name in self.registered),
            *(hasattr(module, name) for module, name in self.absent),
        ]

    def _inherited_now(self) -> list[Any]:
        return list(map(getattr, self._classes, self._names, repeat(None)))
