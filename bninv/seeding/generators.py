"""seed_everything: the same random numbers in every run of a program."""

from __future__ import annotations

import operator
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from bninv._shown import shown

np: Any
try:
    import numpy as np
except ImportError:
    np = None

_LARGEST_SEED = 2**32 - 1  # NumPy's limit, the narrowest
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
# The two values that NVIDIA documents as reproducible; the second is slower, and smaller.
_CUBLAS_VALUES = (":4096:8", ":16:8")
_CUDNN_VALUES = {"deterministic": True, "benchmark": False}
# Devices with one generator each, that may not be initialised yet. Seeding waits until they are.
_LAZY_DEVICES = ("cuda", "xpu")

_hash_warning_given = False


class SeedingWarning(UserWarning):
    """Something that moves results from run to run, and that cannot be set any more."""


@dataclass(frozen=True)
class Seeded:
    """What `seed_everything` changed. As a context manager it changes all of it back on exit.

    `generators`: those that were seeded, such as ("random", "numpy", "torch", "cuda:0").
    `settings`: each setting that got another value, with the value before and the value since.
    """

    seed: int
    generators: tuple[str, ...]
    settings: dict[str, tuple[Any, Any]]
    _before: _State = field(repr=False, compare=False)

    def restore(self) -> None:
        """Put generators and settings back to where they were before the call."""
        self._before.restore()

    def __enter__(self) -> Seeded:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def __str__(self) -> str:
        changes = [f"{name}: {old} -> {new}" for name, (old, new) in self.settings.items()]
        return "; ".join([f"seed {self.seed}: {', '.join(self.generators)}", *changes])


def seed_everything(seed: int, deterministic: bool = False) -> Seeded:
    """Seed `random`, NumPy's legacy global generator, and PyTorch on the CPU and every accelerator.

    Call it once, before the model is made, and its random weights repeat as well. Used as
    `with bninv.seed_everything(0):` it leaves every generator, cuDNN's flags and the environment
    as they were, and may be nested. Generators of their own (`np.random.default_rng()`,
    `torch.Generator()`, other libraries') are out of its reach.

    Once in a process it warns if Python's string hashes differ from run to run, and with them
    the order of sets: only `PYTHONHASHSEED=0 python ...`, from outside, can fix them.

    Args:
        seed: 0 to 2**32 - 1, an int or one of NumPy's.
        deterministic: also let cuDNN use deterministic algorithms only, and the same ones in each
            run (`torch.backends.cudnn.deterministic = True`, `.benchmark = False`), and set
            CUBLAS_WORKSPACE_CONFIG unless it has a reproducible value. cuBLAS reads that when
            CUDA starts, so a warning says if it has. `torch.use_deterministic_algorithms(True)`,
            which raises at operators that have no deterministic form, is left to you.

    Raises:
        TypeError: `seed` is no int.
        ValueError: `seed` is out of range.
    """
    seed = need_seed(seed)
    cublas_changes = deterministic and os.environ.get(_CUBLAS) not in _CUBLAS_VALUES
    # Before anything changes: where warnings are errors, there is then nothing to restore.
    if _hash_warning_due():
        warnings.warn(
            "Python's string hashes, and with them the order of sets, differ from run to run: "
            "PYTHONHASHSEED has to be set before Python starts (PYTHONHASHSEED=0 python ...)",
            SeedingWarning,
            stacklevel=2,
        )
    if cublas_changes and torch.cuda.is_initialized():
        warnings.warn(
            f"{_CUBLAS} is set too late: CUDA is initialised already, and cuBLAS may not repeat. "
            f"Call seed_everything before CUDA is used, or set {_CUBLAS}=:4096:8 outside",
            SeedingWarning,
            stacklevel=2,
        )
    before = _State.now(settings=deterministic)
    try:
        settings = _set_deterministic(cublas_changes) if deterministic else {}
        random.seed(seed)
        if np is not None:
            np.random.seed(seed)
        torch.manual_seed(seed)
    except BaseException:
        before.restore()
        raise
    return Seeded(seed, _generators(), settings, before)


def need_seed(seed: Any) -> int:
    """The seed as an int; NumPy's integers are taken too.

    Raises:
        TypeError: it is no integer.
        ValueError: not every generator takes it.
    """
    try:
        number = None if isinstance(seed, (bool, torch.Tensor)) else operator.index(seed)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"`seed` is {shown(seed)}; it may be an int from 0 to {_LARGEST_SEED}")
    if not 0 <= number <= _LARGEST_SEED:
        raise ValueError(f"`seed` is {number}; it may be an int from 0 to {_LARGEST_SEED}")
    return number


@dataclass(frozen=True)
class HostState:
    """Where the generators that live on the CPU stand: those of `random`, NumPy and PyTorch."""

    python: Any
    numpy: Any
    torch: torch.Tensor

    @staticmethod
    def now() -> HostState:
        numpy = None if np is None else np.random.get_state()
        return HostState(random.getstate(), numpy, torch.get_rng_state())

    def restore(self) -> None:
        random.setstate(self.python)
        if np is not None:
            np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)


@contextmanager
def host_state_kept() -> Iterator[None]:
    """Whatever the body draws or seeds on the CPU, the generators go on from where they were."""
    state = HostState.now()
    try:
        yield
    finally:
        state.restore()


@dataclass(frozen=True)
class _State:
    """All that `seed_everything` may change."""

    host: HostState
    devices: dict[str, list[torch.Tensor]]
    pending_seed: int
    cudnn: dict[str, bool]
    environment: dict[str, str | None]

    @staticmethod
    def now(*, settings: bool) -> _State:
        devices = {}
        for name in _LAZY_DEVICES:
            module = getattr(torch, name)
            if module.is_initialized():
                devices[name] = module.get_rng_state_all()
        if torch.backends.mps.is_available():
            devices["mps"] = [torch.mps.get_rng_state()]
        cudnn = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN_VALUES}
        return _State(
            HostState.now(),
            devices,
            torch.initial_seed(),
            cudnn if settings else {},
            {_CUBLAS: os.environ.get(_CUBLAS)} if settings else {},
        )

    def restore(self) -> None:
        self.host.restore()
        for name in _LAZY_DEVICES:
            module = getattr(torch, name)
            if name in self.devices:
                module.set_rng_state_all(self.devices[name])
            elif not module._is_in_bad_fork():
                # It was not initialised then, so it was to start from the CPU's seed.
                module.manual_seed_all(self.pending_seed)
        if "mps" in self.devices:
            torch.mps.set_rng_state(self.devices["mps"][0])
        for name, flag in self.cudnn.items():
            setattr(torch.backends.cudnn, name, flag)
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _set_deterministic(cublas_changes: bool) -> dict[str, tuple[Any, Any]]:
    """Set cuDNN's flags and cuBLAS's variable; returns what was changed, from what, to what."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name, value in _CUDNN_VALUES.items():
        former = getattr(torch.backends.cudnn, name)
        if former != value:
            setattr(torch.backends.cudnn, name, value)
            changed[f"torch.backends.cudnn.{name}"] = (former, value)
    if cublas_changes:
        changed[_CUBLAS] = (os.environ.get(_CUBLAS), _CUBLAS_VALUES[0])
        os.environ[_CUBLAS] = _CUBLAS_VALUES[0]
    return changed


def _generators() -> tuple[str, ...]:
    names = ["random", *([] if np is None else ["numpy"]), "torch"]
    for name in _LAZY_DEVICES:
        module = getattr(torch, name)
        if not module._is_in_bad_fork():
            names += [f"{name}:{index}" for index in range(module.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return tuple(names)


def _hash_warning_due() -> bool:
    """Once in a process, and only if hashes are in fact drawn anew at every start."""
    global _hash_warning_given
    if _hash_warning_given or not sys.flags.hash_randomization:
        return False
    value = "" if sys.flags.ignore_environment else os.environ.get("PYTHONHASHSEED", "")
    # The flag is set for fixed seeds other than 0, too. A 0 here was put there after the start.
    if value.isdecimal() and int(value) > 0:
        return False
    _hash_warning_given = True
    return True
