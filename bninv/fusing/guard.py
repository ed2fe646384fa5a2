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

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SPECIAL = itemgetter("training", *HOOKS)
_FORWARD = itemgetter("training", *HOOKS[:2])
_CHILDREN = itemgetter("_modules")
_OWNED = ("_modules", "_parameters", "_buffers")
_each = dict.values


def is_special(module: nn.Module) -> bool:
    """Whether calling a module is more, or other, than its class's forward outside training."""
    own = vars(module)
    return any(_SPECIAL(own)) or "forward" in own


class Guard:
    """What a trace has read of modules, and has taken for granted."""

    def __init__(self) -> None:
        self.whole: dict[nn.Module, type] = {}  # of these the class alone decides what they do
        self.special: set[nn.Module] = set()  # hooked, or in training: called as they are
        self.parents: set[nn.Module] = set()
        self.values: dict[tuple[nn.Module, str], Any] = {}
        self.lists: list[tuple[list[Any], list[Any]]] = []
        self.inherited: dict[tuple[type, str], Any] = {}
        self.own: set[tuple[nn.Module, str, str, bool]] = set()  # parameters: whether there is one
        self.overridable: set[tuple[nn.Module, str]] = set()  # found on the class
        self.absent: set[tuple[nn.Module, str]] = set()  # found nowhere

    def close(self) -> None:
        """Lay everything out for `holds`."""
        self._whole, self._types = list(self.whole), list(self.whole.values())
        self._parents = list(self.parents)
        children = [vars(module)["_modules"] for module in self._parents]
        self._counts = list(map(len, children))
        self._names = list(chain.from_iterable(children))
        self._children = [child for named in children for child in named.values()]
        self._owners = [module for module, _ in self.values]
        self._keys = [name for _, name in self.values]
        self._values = list(self.values.values())
        # A `forward` of the instance is looked for in all of `whole`; the block itself would not be
        # running a program then.
        self._shadows = [(m, name) for m, name in self.overridable if name != "forward"]
        rest = (self.special, self.own, self.lists, self.inherited, self.absent, self._shadows)
        self._has_rest = any(rest)

    def holds(self) -> bool:
        """Whether all of it is as it was."""
        dicts = list(map(vars, self._whole))
        children = list(map(_CHILDREN, map(vars, self._parents)))
        grad = torch.is_grad_enabled()
        try:
            return (
                list(map(type, self._whole)) == self._types
                # Without autograd there is nothing for the other hooks to be called by.
                and not any(chain.from_iterable(map(_SPECIAL if grad else _FORWARD, dicts)))
                and not any(map(contains, dicts, repeat("forward")))
                and list(map(len, children)) == self._counts
                and list(chain.from_iterable(children)) == self._names
                and all(map(is_, chain.from_iterable(map(_each, children)), self._children))
                and all(map(is_, map(getitem, map(vars, self._owners), self._keys), self._values))
                and (not self._has_rest or self._rest_holds())
            )
        except KeyError:  # an attribute is gone
            return False

    def _rest_holds(self) -> bool:
        """What few blocks have any of."""
        return (
            not any(name in vars(module) for module, name in self._shadows)
            and all(map(is_special, self.special))
            and all((vars(m)[kind].get(n) is not None) is some for m, kind, n, some in self.own)
            and all(len(a) == len(b) and all(map(is_, a, b)) for a, b in self.lists)
            and all(getattr(cls, name, self) is v for (cls, name), v in self.inherited.items())
            and not any(
                name in vars(module) or any(name in vars(module)[kind] for kind in _OWNED)
                for module, name in self.absent
            )
        )
