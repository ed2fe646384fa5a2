"""dataloader_seeding: equal batches in fresh processes and for any number of workers."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

import bninv
from tests.support.places import ROOT

WORKERS = (0, 1, 3)

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


class Noise(Dataset[Tensor]):
    """Its samples: their index, and a number from each generator."""

    classes = ("noise",)

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> Tensor:
        numbers = [index, random.random(), np.random.random(), torch.rand(()).item()]
        return torch.tensor(numbers, dtype=torch.float64)


def mixed(samples: list[Tensor]) -> Tensor:
    """A collate function that draws, as MixUp does."""
    batch = default_collate(samples)
    return batch.lerp(batch.flip(0), random.random() * torch.rand(()).item() * np.random.random())


def epochs(loader: DataLoader, count: int = 2) -> list[list[list[float]]]:
    return [torch.cat(list(loader)).tolist() for _ in range(count)]


def loaded(workers: int, count: int = 2, *, options: Any = None, **seeding: Any) -> Any:
    keywords = bninv.dataloader_seeding(0, seeding.pop("dataset", Noise()), **seeding)
    if "batch_sampler" not in seeding:
        keywords["batch_size"] = 4
    return epochs(DataLoader(**keywords, num_workers=workers, **(options or {})), count)


# ---- Fresh processes -----------------------------------------------------------------------------


class Photographs(Dataset[Tensor]):
    """Images under augmentations that draw from all three generators."""

    def __init__(self) -> None:
        from torchvision.transforms import v2

        self.transform = v2.Compose(
            [v2.RandomResizedCrop(8), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4)]
        )

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> Tensor:
        image = torch.arange(3 * 12 * 12).view(3, 12, 12).add(index).remainder(256).byte()
        image = self.transform(image).float().roll(random.randrange(8), -1)
        return image + torch.from_numpy(np.random.normal(size=(3, 8, 8))).float()


def digests(loader: DataLoader) -> list[str]:
    """One for each of two epochs."""
    return [hashlib.sha256(torch.cat(list(loader)).numpy().tobytes()).hexdigest() for _ in range(2)]


def report() -> dict[str, dict[str, list[str]]]:
    """What a fresh process prints: digests by how the loader is made and by number of workers."""
    data, size = Photographs(), {"batch_size": 4}
    found: dict[str, dict[str, list[str]]] = {"none": {}, "pair": {}, "dataset": {}}
    for n in map(str, WORKERS):
        workers = int(n)
        found["none"][n] = digests(DataLoader(data, shuffle=True, num_workers=workers, **size))
        keywords = bninv.dataloader_seeding(0, data, shuffle=True)
        found["dataset"][n] = digests(DataLoader(**keywords, num_workers=workers, **size))
        with bninv.seed_everything(0):
            pair = bninv.dataloader_seeding(0)
            loader = DataLoader(data, shuffle=True, num_workers=workers, **size, **pair)
            found["pair"][n] = digests(loader)
    return found


@pytest.fixture(scope="module")
def two_processes() -> list[dict[str, dict[str, list[str]]]]:
    pytest.importorskip("torchvision")
    command = f"import json; from {__name__} import report; print(json.dumps(report()))"
    ended = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
        ended.append(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", command],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
        )
    return [json.loads(process.stdout) for process in ended]


def test_batches_are_equal_in_two_processes_and_for_any_number_of_workers(two_processes) -> None:
    one, other = (process["dataset"] for process in two_processes)
    assert one == other
    assert one["0"] == one["1"] == one["3"]
    assert one["0"][0] != one["0"][1], "the second epoch repeats the first"


def test_the_pair_repeats_for_one_number_of_workers(two_processes) -> None:
    one, other = (process["pair"] for process in two_processes)
    assert one == other
    assert all(first != second for first, second in one.values())


def test_without_the_helper_batches_differ(two_processes) -> None:
    one, other = (process["none"] for process in two_processes)
    everything = [digest for process in (one, other) for n in process.values() for digest in n]
    assert len(set(everything)) == len(everything)


# ---- What a sample's random numbers depend on ----------------------------------------------------


@pytest.fixture(scope="module")
def expected() -> list[list[list[float]]]:
    """Three shuffled epochs of Noise."""
    return loaded(0, 3, shuffle=True)


def test_workers_that_stay_give_the_same_epochs(expected: Any) -> None:
    assert loaded(2, 3, shuffle=True, options={"persistent_workers": True}) == expected


def test_spawned_workers_give_the_same_epochs(expected: Any) -> None:
    options = {"multiprocessing_context": "spawn", "persistent_workers": True}
    assert loaded(1, 3, shuffle=True, options=options) == expected


def test_neither_batch_size_nor_order_change_a_sample(expected: Any) -> None:
    alone = DataLoader(**bninv.dataloader_seeding(0, Noise()), batch_size=1)
    single = DataLoader(**bninv.dataloader_seeding(0, Noise(), shuffle=True), batch_size=None)
    assert epochs(alone, 3) == [sorted(epoch) for epoch in expected]
    assert [torch.stack(list(single)).tolist() for _ in range(3)] == expected


def test_another_seed_gives_other_orders_and_numbers(expected: Any) -> None:
    keywords = bninv.dataloader_seeding(1, Noise(), shuffle=True)
    other = epochs(DataLoader(**keywords, batch_size=4), 1)[0]
    assert [row[0] for row in other] != [row[0] for row in expected[0]]
    known = {number for epoch in expected for row in epoch for number in row[1:]}
    assert known.isdisjoint(number for row in other for number in row[1:])


def test_no_number_comes_twice(expected: Any) -> None:
    numbers = [number for epoch in expected for row in epoch for number in row[1:]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_broken_off_counts(expected: Any, workers: int) -> None:
    keywords = bninv.dataloader_seeding(0, Noise(), shuffle=True)
    loader = DataLoader(**keywords, batch_size=4, num_workers=workers)
    next(iter(loader))
    assert epochs(loader) == expected[1:]


def test_a_run_is_resumed(expected: Any) -> None:
    loader = DataLoader(**bninv.dataloader_seeding(0, Noise(), shuffle=True), batch_size=4)
    loader.sampler.set_epoch(2)
    assert epochs(loader, 1) == expected[2:]


def test_the_programs_own_numbers_are_left_alone() -> None:
    def numbers(batches: Any) -> list[float]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        drawn = []
        for _ in batches:
            drawn += [random.random(), np.random.random(), torch.rand(()).item()]
        return drawn

    keywords = bninv.dataloader_seeding(0, Noise(), shuffle=True, collate_fn=mixed)
    assert numbers(DataLoader(**keywords, batch_size=4)) == numbers(range(4))


def test_the_programs_own_numbers_outlive_a_sample_that_fails() -> None:
    class Broken(Noise):
        def __getitem__(self, index: int) -> Tensor:
            super().__getitem__(index)
            raise ZeroDivisionError

    torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError):
        loaded(0, dataset=Broken())
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(0))


# ---- What may be given ---------------------------------------------------------------------------


def test_samplers_batch_samplers_and_collation() -> None:
    weights = torch.tensor([1.0] * 12 + [30.0])
    cases: list[dict[str, Any]] = [
        {"sampler": WeightedRandomSampler(weights, 13)},
        {"sampler": SubsetRandomSampler(range(2, 10))},
        {"batch_sampler": [[1, 2, 3], [4, 4], [np.int64(5), torch.tensor(6)]]},
        {"collate_fn": mixed, "shuffle": True},
        {"dataset": random_split(Noise(), [9, 4], torch.Generator().manual_seed(0))[0]},
    ]
    for case in cases:
        torch.manual_seed(random.randrange(1000))  # where the program's numbers stand is no matter
        plain, worked = loaded(0, **copy.deepcopy(case)), loaded(1, **copy.deepcopy(case))
        assert plain == worked, case
        assert plain[0] != plain[1], case


def test_an_index_drawn_twice_gets_other_numbers_each_time() -> None:
    rows = loaded(0, 1, batch_sampler=[[4, 4], [4]])[0]
    assert len({row[1] for row in rows}) == len({row[3] for row in rows}) == 3


def test_indices_may_be_names() -> None:
    data = {"b": 1, ("a", 2): 2}

    class Named:
        def __getitem__(self, name: Any) -> Tensor:
            return torch.rand(1) + data[name]

    assert loaded(0, dataset=Named(), sampler=list(data)) == loaded(
        0, dataset=Named(), sampler=list(data)
    )
    with pytest.raises(TypeError, match=r"\(object\); it may be an integer"):
        loaded(0, dataset=Named(), sampler=[object()])


def test_the_dataset_can_be_reached() -> None:
    keywords = bninv.dataloader_seeding(0, Noise())
    assert keywords["dataset"].classes == ("noise",)
    assert len(keywords["dataset"]) == 13
    assert not hasattr(keywords["dataset"], "transform")
    del keywords["generator"]
    again = pickle.loads(pickle.dumps(keywords))
    assert epochs(DataLoader(**again)) == epochs(DataLoader(**keywords))


# ---- Indices that have no epoch ------------------------------------------------------------------


def test_a_plain_index_is_the_sample_of_epoch_0() -> None:
    loader = DataLoader(**bninv.dataloader_seeding(0, Noise()), batch_size=4)
    first = epochs(loader, 1)[0]
    data = loader.dataset
    for _ in range(2):  # however much was loaded since
        assert [data[i].tolist() for i in range(13)] == first
        epochs(loader, 1)
    assert data[-1].tolist()[1:] == first[-1][1:]
    assert data[np.int64(3)].tolist() == data[torch.tensor(3)].tolist() == first[3]
    with pytest.raises(TypeError, match="an index is None; it may be an integer"):
        data[None]


def test_slices_and_lists_of_a_dataset_that_takes_them() -> None:
    data = bninv.dataloader_seeding(0, TensorDataset(torch.arange(8.0)))["dataset"]
    assert data[2:4][0].tolist() == [2, 3]
    assert data[[1, 5]][0].tolist() == data[np.array([1, 5])][0].tolist() == [1, 5]
    assert data[torch.tensor([1, 5])][0].tolist() == [1, 5]


def test_the_dataset_may_be_split() -> None:
    data = bninv.dataloader_seeding(0, Noise())["dataset"]
    parts = random_split(data, [9, 4], torch.Generator().manual_seed(0))
    rows = {int(row[0]): row.tolist() for part in parts for row in part}
    assert rows == {i: data[i].tolist() for i in range(13)}


@pytest.mark.parametrize("workers", [0, 1])
def test_another_sampler_repeats_an_epoch_and_says_so(workers: int) -> None:
    """Trainers replace the sampler; the samples are those of epoch 0 then."""
    keywords = bninv.dataloader_seeding(0, Noise())
    expected = epochs(DataLoader(**keywords, batch_size=4))
    data = bninv.dataloader_seeding(0, Noise())["dataset"]
    loader = DataLoader(data, sampler=SequentialSampler(data), batch_size=4, num_workers=workers)
    if workers == 0:
        with pytest.warns(bninv.SeedingWarning, match=r"did not make.* set_epoch\(n\)") as record:
            assert epochs(loader) == [expected[0], expected[0]]
        assert len(record) == 1
    for epoch in (1, 0):
        data.set_epoch(epoch)
        assert epochs(loader, 1) == [expected[epoch]]


def test_a_batch_of_none() -> None:
    assert bninv.dataloader_seeding(0, Noise())["dataset"].__getitems__([]) == []


@pytest.mark.filterwarnings("ignore:Python's string hashes")
def test_seeds_of_numpys() -> None:
    for seed in (np.int64(3), np.uint8(3)):
        assert loaded_with(seed) == loaded_with(3)
        with bninv.seed_everything(seed) as seeded:
            assert type(seeded.seed) is int and seeded.seed == 3
    for wrong in (np.float64(3), np.bool_(True), "3", 3.0, None, torch.tensor(3)):
        with pytest.raises(TypeError, match="it may be an int from 0"):
            bninv.seed_everything(wrong)
    with pytest.raises(ValueError, match="`seed` is -1"):
        bninv.seed_everything(np.int64(-1))


def loaded_with(seed: Any) -> Any:
    keywords = bninv.dataloader_seeding(seed, Noise(), shuffle=True, collate_fn=mixed)
    return epochs(DataLoader(**keywords, batch_size=4))


def test_the_pair_alone() -> None:
    keywords = bninv.dataloader_seeding(5)
    assert sorted(keywords) == ["generator", "worker_init_fn"]
    assert keywords["generator"].initial_seed() == 5
    pickle.dumps(keywords["worker_init_fn"])

    def drawn(seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)  # as PyTorch does in a worker
        keywords["worker_init_fn"](0)
        assert torch.initial_seed() == seed
        return random.random(), float(np.random.random())

    assert drawn(3) == drawn(3)
    assert set(drawn(3)).isdisjoint(drawn(4))


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        yield torch.rand(1)


def test_what_cannot_be_given() -> None:
    data = TensorDataset(torch.zeros(3))
    with pytest.raises(TypeError, match="`dataset` is a Stream; it may be map-style"):
        bninv.dataloader_seeding(0, Stream())
    with pytest.raises(TypeError, match="`dataset` is a int"):
        bninv.dataloader_seeding(0, 3)
    with pytest.raises(TypeError, match="`seed` is True"):
        bninv.dataloader_seeding(True)
    with pytest.raises(ValueError, match="`shuffle` and `sampler` are given"):
        bninv.dataloader_seeding(0, data, shuffle=True, sampler=RandomSampler(data))
    for name, value in {"shuffle": True, "sampler": [1], "collate_fn": mixed}.items():
        with pytest.raises(ValueError, match=f"`{name}` is given without `dataset`"):
            bninv.dataloader_seeding(0, **{name: value})
