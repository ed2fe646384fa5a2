"""dataloader_seeding: the same batches in every run, with any number of DataLoader workers.

A DataLoader's workers have one stream of random numbers each, and without workers the samples
draw from the program's own. So who loads a sample decides its augmentation. Here a sample's random
numbers follow from (seed, epoch, index) instead, and the epoch travels with the index: that holds
for persistent workers, for prefetching across epochs, and for an epoch that was broken off.
"""

from __future__ import annotations

import hashlib
import operator
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import (
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    get_worker_info,
)

from bninv._shown import shown
from bninv.seeding.generators import SeedingWarning, host_state_kept, need_seed, np


def dataloader_seeding(
    seed: int,
    dataset: Any = None,
    *,
    shuffle: bool = False,
    sampler: Iterable[Any] | None = None,
    batch_sampler: Iterable[Any] | None = None,
    collate_fn: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """Keyword arguments for `torch.utils.data.DataLoader` that make its batches repeat.

    With the dataset, batches are the same for any `num_workers`, 0 included:

        loader = DataLoader(
            **bninv.dataloader_seeding(0, dataset, shuffle=True), batch_size=32, num_workers=4
        )

    `random`, NumPy's global generator and PyTorch's CPU generator are seeded for each sample from
    (seed, epoch, index) and put back after each batch (about 10 microseconds a sample and 120 a
    batch). So a sample's augmentation depends neither
    on the batch it is in nor on who loads it, each epoch has its own, and the main program's random
    numbers go on as if nothing had been loaded. `loader.sampler.set_epoch(n)` (or
    `loader.batch_sampler`'s) makes the next epoch the n-th, to resume a run.

    Without the dataset, `dataloader_seeding(seed)` is the plain pair `generator` and
    `worker_init_fn`: shuffles repeat, and so do augmentations for one and the same number of
    workers. With `num_workers=0` they draw from the main program's generators: seed those with
    `seed_everything`.

    Args:
        seed: 0 to 2**32 - 1. For the ranks of distributed training, the same.
        dataset: map-style, that is, with `__getitem__`. Asked sample by sample, also where it has
            `__getitems__`. Its attributes can be reached through `loader.dataset`, and so can its
            samples: `loader.dataset[3]` is sample 3 of epoch 0, whatever was loaded before.
        shuffle, sampler, batch_sampler, collate_fn: what DataLoader would have been given; not
            without the dataset. At most one of the first three. A sampler has to draw its random
            order when the epoch begins, or from a generator of its own, as PyTorch's do. Only a
            `collate_fn` given here (MixUp, say) has its random numbers seeded for each batch.

    Returns:
        A dict with `generator` and `worker_init_fn`; with a dataset, also `dataset`, `sampler` or
        `batch_sampler`, and `collate_fn` if one was given. All but the generator can be pickled
        if what was given can, so workers may be spawned as well as forked.

    Warns:
        SeedingWarning: once, where a DataLoader with a sampler of somebody else's (Lightning and
            Accelerate put one in) asks the dataset for plain indices. These samples repeat too, but
            have epoch 0's numbers in every epoch; `dataset.set_epoch(n)` before each helps.

    Raises:
        TypeError: `seed` is no integer, or `dataset` is not map-style: which samples an
            IterableDataset gives depends on the number of workers.
        ValueError: `seed` is out of range, or the other arguments contradict one another.
    """
    seed = need_seed(seed)
    keywords: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(seed),
        "worker_init_fn": seed_worker,
    }
    orders = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
    given = [name for name, value in orders.items() if value is not None]
    if dataset is None:
        given += [] if collate_fn is None else ["collate_fn"]
        if given:
            raise ValueError(f"`{given[0]}` is given without `dataset`; give DataLoader both")
        return keywords
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"`dataset` is a {type(dataset).__name__}; it may be map-style, with __getitem__ (for "
            "an IterableDataset use dataloader_seeding(seed), and keep num_workers fixed)"
        )
    if len(given) > 1:
        raise ValueError(f"`{given[0]}` and `{given[1]}` are given; it may be one of them")
    keywords["dataset"] = SeededDataset(seed, dataset)
    if batch_sampler is not None:
        keywords["batch_sampler"] = SeededSampler(seed, batch_sampler, batches=True)
    elif sampler is not None:
        keywords["sampler"] = SeededSampler(seed, sampler)
    else:
        order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        keywords["sampler"] = SeededSampler(seed, order, repeats=False)
    if collate_fn is not None:
        keywords["collate_fn"] = SeededCollate(seed, collate_fn)
    return keywords


def seed_worker(worker_id: int) -> None:
    """A `worker_init_fn`: seeds `random` and NumPy from the seed that PyTorch gave this worker."""
    _seed_host("worker", torch.initial_seed(), with_torch=False)


class Key(NamedTuple):
    """An index on its way to the dataset: which one, in which epoch, for which time in it."""

    index: Any
    epoch: int
    repeat: int


class SeededSampler(Sampler[Any]):
    """The indices of `sampler` (or its batches of indices) as `Key`s; counts the epochs."""

    def __init__(
        self, seed: int, sampler: Any, *, batches: bool = False, repeats: bool = True
    ) -> None:
        self.seed = seed
        self.sampler = sampler
        self.epoch = 0
        self._batches = batches
        self._repeats = repeats  # whether an index may come twice in an epoch

    def set_epoch(self, epoch: int) -> None:
        """Make the next epoch the one with this number, counted from 0."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    # A generator function: DataLoader makes iterators that it never asks for anything, and those
    # must not count as epochs.
    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch += 1
        seen: Counter[Any] = Counter()

        def key(index: Any) -> Key:
            if not self._repeats:
                return Key(index, epoch, 0)
            name = _name_of(index)
            seen[name] += 1
            return Key(index, epoch, seen[name] - 1)

        def convert(item: Any) -> Any:
            return [key(index) for index in item] if self._batches else key(item)

        # PyTorch's samplers draw their order, or a seed for it, when first asked.
        end = object()
        with host_state_kept():
            _seed_host("order", self.seed, epoch)
            items = iter(self.sampler)
            first = next(items, end)
        if first is end:
            return
        yield convert(first)
        for item in items:
            yield convert(item)


class SeededDataset(Dataset[Any]):
    """A map-style dataset that seeds the generators for each sample, by its `Key`.

    A plain index is the sample's in `epoch`: 0, or what `set_epoch` made it.
    """

    def __init__(self, seed: int, dataset: Any) -> None:
        self.seed = seed
        self.dataset = dataset
        self.epoch = 0
        self._warned = False

    def set_epoch(self, epoch: int) -> None:
        """Make plain indices those of the epoch with this number, in this process and in workers
        that start from now on.
        """
        self.epoch = epoch
        self._warned = True  # who calls this knows

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, Key) and get_worker_info() is not None:
            self._warn_of_epoch()
        with host_state_kept():
            return self._get(self._key(index))

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        if not all(isinstance(index, Key) for index in indices):
            self._warn_of_epoch()
        keys = [self._key(index) for index in indices]
        with host_state_kept():  # once for the batch: this is what costs
            samples = [self._get(key) for key in keys]
        return Samples(samples, keys[0]) if keys else samples

    def _key(self, index: Any) -> Key:
        return index if isinstance(index, Key) else Key(index, self.epoch, 0)

    def _get(self, key: Key) -> Any:
        name = _name_of(key.index)
        if isinstance(name, int) and name < 0 and hasattr(self.dataset, "__len__"):
            name += len(self.dataset)  # the same sample, and so the same numbers
        _seed_host("sample", self.seed, key.epoch, name, key.repeat)
        return self.dataset[key.index]

    def _warn_of_epoch(self) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            "a sampler that dataloader_seeding did not make gives indices without their epoch: "
            f"every epoch has the random numbers of epoch {self.epoch}. Give that sampler to "
            "dataloader_seeding, or call set_epoch(n) of the loader's dataset before each epoch",
            SeedingWarning,
            stacklevel=3,
        )

    def __getattr__(self, name: str) -> Any:
        # Not before __init__ ran (unpickling), and no protocols that are not defined here.
        if name in ("dataset", "epoch", "_warned") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Samples(list[Any]):
    """The samples of a batch, with the key of the first one."""

    def __init__(self, samples: list[Any], key: Key) -> None:
        super().__init__(samples)
        self.key = key


class SeededCollate:
    """Calls `collate_fn` with the generators seeded for the batch at hand."""

    def __init__(self, seed: int, collate_fn: Callable[[Any], Any]) -> None:
        self.seed = seed
        self.collate_fn = collate_fn

    def __call__(self, samples: Any) -> Any:
        if not isinstance(samples, Samples):  # batch_size=None: one sample, no batch
            return self.collate_fn(samples)
        key = samples.key
        with host_state_kept():
            _seed_host("collate", self.seed, key.epoch, _name_of(key.index), key.repeat)
            return self.collate_fn(list(samples))


def _name_of(index: Any) -> Any:
    """The index as ints and strings, whose repr is the same in every process.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(index, (str, bytes)):
        return index
    if isinstance(index, (tuple, list)):
        return tuple(_name_of(part) for part in index)
    if isinstance(index, slice):
        parts = (index.start, index.stop, index.step)
        return ("slice", *(None if part is None else _name_of(part) for part in parts))
    if getattr(index, "ndim", 0) > 0 and hasattr(index, "tolist"):  # an array, a tensor
        return _name_of(index.tolist())
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(
            f"an index is {shown(index)}; it may be an integer, a "
            "string, a slice, or a tuple, list or array of them"
        ) from None


def _seed_host(*key: Any, with_torch: bool = True) -> None:
    """Seed the CPU's generators from `key`, each with a number of its own.

    PyTorch's own `manual_seed` would seed the accelerators too, for every sample.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=20).digest()
    random.seed(int.from_bytes(digest[:8], "little"))
    if np is not None:
        np.random.seed(int.from_bytes(digest[8:12], "little"))
    if with_torch:
        torch.default_generator.manual_seed(int.from_bytes(digest[12:], "little"))
