"""Which operators of a stock model move a sample's bits, when given identical inputs.

The model runs on a batch under a TorchDispatchMode. Each operator that gets batched tensors runs
once more on every sample's part of the very same inputs, and its result is compared with that
part of the full result. So an operator is blamed for what it does itself, and never for what an
earlier operator handed to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bninv.checking.audit import ModuleStack
from bninv.checking.batch_dim import BatchTracker, take
from bninv.checking.batch_dim import Place as BatchPlace
from bninv.checking.bits import same_bits
from bninv.checking.inputs import call_model, count
from bninv.checking.sites import Place, Site, calling_line, count_sites, forward_line
from bninv.detection import Images
from bninv.dispatch.exact import tensors_in


@dataclass
class Culprit:
    """A kind of operator: how many of its calls moved bits, of how many, and where.

    `first`, `line` and `code` are of the first call that moved (see `Site`); `sites` are of all of
    them. For a module whose Python code is to blame, the line is that of its forward.
    """

    kind: str
    moved: int
    total: int
    first: str
    line: str = ""
    code: str = ""
    sites: list[Site] = field(default_factory=list)


class _Tally:
    """Calls by kind and ordinal, so that runs at several batch sizes count each call once."""

    def __init__(self) -> None:
        self._total: dict[str, int] = {}
        self._moved: dict[str, dict[int, Place]] = {}

    def add(self, kind: str, ordinal: int, moved_at: Place | None) -> None:
        self._total[kind] = max(self._total.get(kind, 0), ordinal + 1)
        if moved_at is not None:
            self._moved.setdefault(kind, {}).setdefault(ordinal, moved_at)

    def culprits(self) -> list[Culprit]:
        found = []
        for kind, calls in self._moved.items():
            places = [calls[ordinal] for ordinal in sorted(calls)]
            total = self._total[kind]
            found.append(Culprit(kind, len(places), total, *places[0], count_sites(places)))
        return sorted(found, key=lambda c: (-c.moved, c.kind))


class _Blamer(TorchDispatchMode):
    def __init__(self, batch: Any, part: int, stack: ModuleStack, tally: _Tally) -> None:
        super().__init__()
        self.part = part
        self.stack = stack
        self.tally = tally
        self.tracker = BatchTracker(batch)
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        places = self.tracker.places([*tensors_in(args), *tensors_in(kwargs)])
        if not places or func.is_view:
            result = func(*args, **kwargs)
            self.tracker.follow(tensors_in(result), places, func.is_view)
            return result
        # An in-place operator overwrites the inputs that the parts are to be taken from.
        saved = args
        if func._schema.is_mutable:
            saved = _map(args, lambda t: t.clone() if id(t) in places else t)
            places = {id(b): places[id(a)] for a, b in _pairs(args, saved) if id(a) in places}
        result = func(*args, **kwargs)
        self.tracker.follow(tensors_in(result), places, False)
        moved = self._moved(func, saved, kwargs, result, places)
        if moved is not None:
            kind = func.overloadpacket.__name__
            ordinal = self.calls.get(kind, 0)
            self.calls[kind] = ordinal + 1
            place = None
            if moved:
                place = Place(self.stack.innermost, *calling_line(find_culprits.__code__))
            self.tally.add(kind, ordinal, place)
        return result

    def _moved(
        self, func: Any, args: Any, kwargs: Any, result: Any, places: dict[int, BatchPlace]
    ) -> bool | None:
        """Whether a part alone gives other bits; None where the call cannot be cut in parts."""
        name = func.overloadpacket.__name__
        if "empty" in name:
            return None  # new memory holds anything
        if "roi_" in name:
            return None  # its regions name their image by number, which a part would not have
        results = list(tensors_in(result))
        of_result = [self.tracker.place(t) for t in results]
        for start in range(0, self.tracker.size - self.part + 1, self.part):

            def cut(t: Tensor, start: int = start) -> Tensor:
                return take(t, places[id(t)], start, self.part) if id(t) in places else t

            try:
                parts = self._sized(func, _map(args, cut))
                alone = list(tensors_in(func(*parts, **_map(kwargs, cut))))
            except (RuntimeError, IndexError, ValueError, TypeError):
                return None  # sizes among the arguments, say
            for index, (whole, one) in enumerate(zip(results, alone, strict=False)):
                place = of_result[index]
                if place is None and index > 0:
                    continue  # statistics, random state: no sample's result
                # A result as large for a part as for the batch has merged the samples, even where
                # another of its dimensions looks like the batch's.
                if place is not None and whole.shape != one.shape:
                    whole = take(whole, place, start, self.part)
                if whole.shape != one.shape:
                    return None
                if not same_bits(whole, one):
                    return True
        return False

    def _sized(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """`args` with the batch size, which group normalization gets as `N`, that of a part."""
        names = [argument.name for argument in func._schema.arguments[: len(args)]]
        return tuple(
            self.part if name == "N" and value == self.tracker.size else value
            for name, value in zip(names, args, strict=True)
        )


@contextmanager
def _batched(model: nn.Module, batch: Any, blamer: _Blamer) -> Iterator[None]:
    """Tell the blamer of the tensor that a detector's transform makes of its images."""

    def made(module: nn.Module, args: Any, output: Any) -> None:
        image_list = output[0] if isinstance(output, tuple) and output else output
        tensor = getattr(image_list, "tensors", None)
        if isinstance(tensor, Tensor) and tensor.dim() == 4 and len(tensor) == len(batch):
            blamer.tracker.start(tensor)

    if not isinstance(batch, Images):
        yield
        return
    handles = [module.register_forward_hook(made) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _map(value: Any, function: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_map(item, function) for item in value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    return value


def _pairs(a: Any, b: Any) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors_in(a), tensors_in(b), strict=True))


class _ModuleBlamer:
    """Compares whole modules: for code that looks at the batch itself, around exact operators."""

    def __init__(self, model: nn.Module, part: int, tally: _Tally) -> None:
        self.model = model
        self.part = part
        self.tally = tally
        self.size = 0
        self._busy = False
        self._calls: dict[str, int] = {}
        # How often a module inside the running one moved: then it is the one to blame.
        self._inside: list[int] = []

    def run(self, batch: Any) -> None:
        self.size = count(batch)
        self._calls.clear()
        handles = []
        try:
            for name, module in self.model.named_modules():
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave(name), with_kwargs=True))
            with torch.no_grad():
                call_model(self.model, batch)
        finally:
            for handle in handles:
                handle.remove()
            self._inside.clear()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not self._busy:
            self._inside.append(0)

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if self._busy:
                return
            moved = self._inside.pop()
            if not moved:
                self._busy = True
                try:
                    moved = int(bool(self._moves(module, args, kwargs, output)))
                finally:
                    self._busy = False
                kind = type(module).__name__
                ordinal = self._calls.get(kind, 0)
                self._calls[kind] = ordinal + 1
                place = None
                if moved:
                    line = forward_line(module) or calling_line(find_culprits.__code__)
                    place = Place(name, *line)
                self.tally.add(kind, ordinal, place)
            if self._inside:
                self._inside[-1] += moved

        return hook

    def _moves(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> bool:
        whole = list(tensors_in(output))
        if any(t.dim() == 0 or t.shape[0] != self.size for t in whole):
            return False
        for start in range(0, self.size - self.part + 1, self.part):

            def cut(t: Tensor, start: int = start) -> Tensor:
                batched = t.dim() > 0 and t.shape[0] == self.size
                return t.narrow(0, start, self.part).clone() if batched else t

            try:
                alone = list(tensors_in(module(*_map(args, cut), **_map(kwargs, cut))))
            except Exception:  # a model may refuse what it was not built for
                return False
            for a, b in zip(whole, alone, strict=False):
                if not same_bits(a.narrow(0, start, self.part), b):
                    return True
        return False


def find_culprits(model: nn.Module, batches: Sequence[Any], part: int = 1) -> list[Culprit]:
    """The operators that gave other bits to `part` samples alone than within a batch.

    Where no operator did, the innermost modules that did: their Python code looks at the batch.

    Args:
        model: the stock model, in eval mode.
        batches: inputs of several batch sizes, each larger than `part`.
        part: how many samples the small calls get.

    Returns:
        The kinds that moved, the most often moved first; a call that moved at any of the batch
        sizes counts once. Memory: one more copy of the tensors that an in-place operator changes.
    """
    tally = _Tally()
    stack = ModuleStack()
    for batch in batches:
        blamer = _Blamer(batch, part, stack, tally)
        with torch.no_grad(), stack.watching(model), _batched(model, batch, blamer), blamer:
            call_model(model, batch)
    if not tally.culprits():
        tally = _Tally()
        modules = _ModuleBlamer(model, part, tally)
        for batch in batches:
            modules.run(batch)
    return tally.culprits()
