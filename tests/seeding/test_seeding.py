"""seed_everything: what it seeds, what it says, and that it leaves no trace."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import bninv
from bninv.seeding import SeedingWarning
from bninv.seeding import generators as seeding

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def _quiet_and_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(seeding, "_hash_warning_given", True)
    monkeypatch.delenv(CUBLAS, raising=False)
    former = bninv.seed_everything(0, deterministic=True)
    former.restore()
    yield
    former.restore()


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def settings() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, os.environ.get(CUBLAS)


# ---- Seeding -------------------------------------------------------------------------------------


def test_every_generator_is_seeded_as_by_its_own_function() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    expected = draw()
    assert draw() != expected
    bninv.seed_everything(3)
    assert draw() == expected
    bninv.seed_everything(4)
    assert all(a != b for a, b in zip(draw(), expected, strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range(seed: int) -> None:
    assert bninv.seed_everything(seed).seed == seed


@pytest.mark.parametrize("seed", [True, None, "0", 1.0, np.float64(3)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    random.seed(1)
    with pytest.raises(TypeError, match=r"`seed` is .+; it may be an int from 0 to"):
        bninv.seed_everything(seed)
    assert random.random() == random.Random(1).random()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"`seed` is {seed}; it may be an int from 0 to"):
        bninv.seed_everything(seed)


# ---- What it says --------------------------------------------------------------------------------


def test_it_lists_what_it_changed() -> None:
    torch.backends.cudnn.benchmark = True
    seeded = bninv.seed_everything(5, deterministic=True)
    assert seeded.seed == 5
    assert seeded.generators[:3] == ("random", "numpy", "torch")
    assert seeded.settings == {
        "torch.backends.cudnn.deterministic": (False, True),
        "torch.backends.cudnn.benchmark": (True, False),
        CUBLAS: (None, ":4096:8"),
    }
    text = str(seeded)
    assert text.startswith("seed 5: random, numpy, torch")
    assert "torch.backends.cudnn.benchmark: True -> False" in text
    assert "_before" not in repr(seeded)
    assert bninv.seed_everything(5, deterministic=True).settings == {}


@pytest.mark.parametrize(
    ("flag", "ignored", "variable", "warns"),
    [
        pytest.param(1, 0, None, True, id="not set"),
        pytest.param(1, 0, "random", True, id="random"),
        pytest.param(1, 0, "0", True, id="set after the start"),
        pytest.param(1, 1, "42", True, id="python -E"),
        pytest.param(1, 0, "42", False, id="fixed"),
        pytest.param(0, 0, "0", False, id="fixed at 0"),
    ],
)
def test_random_hashes_are_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, flag: int, ignored: int, variable: str | None, warns: bool
) -> None:
    monkeypatch.setattr(seeding, "_hash_warning_given", False)
    flags = SimpleNamespace(hash_randomization=flag, ignore_environment=ignored)
    monkeypatch.setattr(seeding, "sys", SimpleNamespace(flags=flags))
    if variable is None:
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    else:
        monkeypatch.setenv("PYTHONHASHSEED", variable)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(3):
            bninv.seed_everything(seed)
    assert [w.category for w in caught] == [SeedingWarning] * warns
    for warning in caught:
        assert "PYTHONHASHSEED=0 python" in str(warning.message)
        assert warning.filename == __file__


def test_cublas_set_too_late_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.warns(SeedingWarning, match="set too late"):
        bninv.seed_everything(0, deterministic=True)
    # Now it has a reproducible value, as it may have had from the start.
    bninv.seed_everything(0, deterministic=True)


@pytest.mark.parametrize(("former", "after"), [(":16:8", ":16:8"), (":4096:2", ":4096:8")])
def test_only_a_reproducible_cublas_setting_is_kept(
    monkeypatch: pytest.MonkeyPatch, former: str, after: str
) -> None:
    monkeypatch.setenv(CUBLAS, former)
    with bninv.seed_everything(0, deterministic=True):
        assert os.environ[CUBLAS] == after
    assert os.environ[CUBLAS] == former


# ---- Changing it back ----------------------------------------------------------------------------


def test_all_is_restored_after_an_exception() -> None:
    torch.backends.cudnn.benchmark = True
    before = settings()
    bninv.seed_everything(1)
    expected = draw()
    bninv.seed_everything(1)

    def fail() -> None:
        with bninv.seed_everything(2, deterministic=True):
            draw()
            assert settings() == (True, False, ":4096:8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert settings() == before
    assert draw() == expected


def test_blocks_nest() -> None:
    before = settings()
    bninv.seed_everything(1)
    outer = [draw(), draw()]
    with bninv.seed_everything(1):
        assert draw() == outer[0]
        with bninv.seed_everything(2, deterministic=True):
            draw()
            with bninv.seed_everything(3, deterministic=True):
                draw()
            assert settings() == (True, False, ":4096:8")
        assert settings() == before
        assert draw() == outer[1]


def test_settings_stay_without_a_block() -> None:
    seeded = bninv.seed_everything(0, deterministic=True)
    assert settings() == (True, False, ":4096:8")
    seeded.restore()
    assert settings() == (False, False, None)


def test_a_device_not_yet_initialised_starts_from_the_former_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(7)
    with bninv.seed_everything(8):
        pass
    assert seeds == [7, 8, 7]


def test_states_of_initialised_devices_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([1]), torch.tensor([2])]
    put_back: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put_back.append)
    with bninv.seed_everything(8) as seeded:
        assert seeded.generators == ("random", "numpy", "torch", "cuda:0", "cuda:1")
    assert put_back == [states]


@pytest.mark.cuda
def test_on_a_gpu() -> None:
    torch.cuda.manual_seed_all(1)
    expected = torch.rand(5, device="cuda")
    torch.cuda.manual_seed_all(1)
    with bninv.seed_everything(2):
        inside = torch.rand(5, device="cuda")
        torch.manual_seed(2)
        assert torch.equal(torch.rand(5, device="cuda"), inside)
    assert torch.equal(torch.rand(5, device="cuda"), expected)
