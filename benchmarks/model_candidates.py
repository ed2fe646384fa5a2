"""The ways to run a network that bench_models.py compares."""

from __future__ import annotations

import copy
import functools
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

import bninv
from benchmarks.common.candidate import Candidate, Switches
from benchmarks.fold import fold_batch_norm

# Rows of one group are timed in turn. What users run comes first; compiling, and cuDNN's search for
# algorithms, take far longer than what they make takes to run.
GROUPS = ("eager", "compiled", "others", "cudnn.benchmark")
# Of one network and batch size alone: what few run, or what says the same of every network.
ONCE = ("others", "cudnn.benchmark")
# What launches its kernels for each image, and without cuDNN for each group of channels besides,
# takes seconds beyond this, and twice as long for twice the images.
MOST_SLOW = 32
AMP = torch.bfloat16


class Networks(NamedTuple):
    """One network, prepared in several ways. An input comes in NCHW and in channels_last."""

    nchw: nn.Module
    channels_last: nn.Module
    folded: nn.Module
    patched: nn.Module
    unfused: nn.Module


@functools.cache
def networks(name: str, device: str, dtype: torch.dtype) -> Networks:
    torch.manual_seed(0)
    stock = timm.create_model(name).eval()
    folded = copy.deepcopy(stock)
    fold_batch_norm(folded)
    stock.to(device, dtype)
    return Networks(
        nchw=stock,
        channels_last=_channels_last(copy.deepcopy(stock)),
        folded=_channels_last(folded.to(device, dtype)),
        patched=_patch(copy.deepcopy(stock)),
        unfused=_patch(copy.deepcopy(stock), fuse=False),
    )


def _channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _patch(model: nn.Module, **options: Any) -> nn.Module:
    """As users do; `strict=True` would have every operator that runs looked at, and timed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", bninv.NotInvariantWarning)
        return bninv.patch(model, **options)


def reads_nchw(model: Callable[[Tensor], Tensor], nchw: Tensor, channels_last: Tensor) -> Tensor:
    return model(nchw)


def reads_channels_last(
    model: Callable[[Tensor], Tensor], nchw: Tensor, channels_last: Tensor
) -> Tensor:
    return model(channels_last)


def one_by_one(model: Callable[[Tensor], Tensor], nchw: Tensor, channels_last: Tensor) -> Tensor:
    """The usual way to results that do not depend on the batch."""
    return torch.cat([model(image) for image in nchw.split(1)])


def under_amp(run: Callable[..., Tensor], nchw: Tensor, channels_last: Tensor) -> Tensor:
    """Automatic mixed precision: a float32 model, products in bfloat16."""
    with torch.autocast(nchw.device.type, AMP):
        return run(nchw, channels_last)


def amp(run: Callable[..., Tensor]) -> Candidate:
    return Candidate(partial(under_amp, run), narrow=True)


def candidates(
    name: str, device: str, dtype: torch.dtype, batch: int, group: str, compile_seconds: float
) -> dict[str, Candidate]:
    """By the name of its column, all of a group.

    TF32 is in the names of float32 convolutions as PyTorch has them by default on a GPU; the others
    are IEEE arithmetic, or bfloat16 by AMP, or of the model's dtype.
    """
    nets = networks(name, device, dtype)
    nchw = partial(reads_nchw, nets.nchw)
    last = partial(reads_channels_last, nets.channels_last)
    # As users call it: whatever format their images have.
    patched = partial(reads_nchw, nets.patched)
    ours = {"patched": Candidate(patched)}
    wide = device == "cuda" and dtype == torch.float32
    if group == "compiled":
        return _compiled(nets, wide, compile_seconds) | ours
    found = {}
    if group in ("eager", "cudnn.benchmark"):
        searched = group == "cudnn.benchmark"
        suffix = ", benchmark" if searched else ""
        for tf32 in (True, False) if wide else (False,):
            switches = Switches(tf32=tf32, benchmark=searched)
            tail = (", TF32" if tf32 else "") + suffix
            found[f"stock channels_last{tail}"] = Candidate(last, switches, baseline=not tf32)
            found[f"stock NCHW{tail}"] = Candidate(nchw, switches, baseline=not tf32)
        if wide and not searched:
            found["stock channels_last, AMP"] = amp(last)
            ours["patched, AMP"] = amp(patched)
    if group == "others" or (group == "eager" and device == "cpu"):
        found |= _others(nets, wide, batch, device)
        ours["patched unfused"] = Candidate(partial(reads_nchw, nets.unfused))
    return found | ours


def _others(nets: Networks, wide: bool, batch: int, device: str) -> dict[str, Candidate]:
    """What deserves a row once: stock folded, without cuDNN, or called for one image at a time."""
    nchw, folded = (partial(reads_nchw, nets.nchw), partial(reads_channels_last, nets.folded))
    found = {"folded channels_last": Candidate(folded)}
    if device == "cuda":
        # A baseline, for the ratio.
        last = partial(reads_channels_last, nets.channels_last)
        found["stock channels_last"] = Candidate(last, baseline=True)
    if wide:
        found["folded channels_last, TF32"] = Candidate(folded, Switches(tf32=True))
    if device == "cuda" and batch <= MOST_SLOW:
        found["cuDNN off"] = Candidate(nchw, Switches(cudnn=False), graph=False)
    if 1 < batch <= MOST_SLOW:
        single = partial(one_by_one, nets.nchw)
        found["sample by sample"] = Candidate(single, graph=False)
    return found


def _compiled(nets: Networks, wide: bool, seconds: float) -> dict[str, Candidate]:
    # Else a second batch size is compiled for any batch size.
    torch.compiler.reset()
    last = partial(reads_channels_last, nets.channels_last)
    found = {"stock channels_last": Candidate(last, baseline=True)}

    def compiled() -> Callable[..., Any]:
        run = partial(reads_channels_last, torch.compile(nets.channels_last))
        return partial(_first_within, seconds, [], run)

    if wide:
        switches = Switches(tf32=True)
        found["compiled channels_last, TF32"] = Candidate(compiled(), switches)
        found["compiled channels_last, AMP"] = amp(compiled())
    else:
        found["compiled channels_last"] = Candidate(compiled())
    return found


def _first_within(seconds: float, done: list[bool], run: Callable[..., Any], *args: Any) -> Any:
    """The first call compiles; it may take so many seconds."""
    if done:
        return run(*args)
    with time_limit(seconds):
        result = run(*args)
    done.append(True)
    return result


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread, wherever it is by then."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not compiled in {seconds:g} seconds")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
