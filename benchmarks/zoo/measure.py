"""One model, in a process of its own: its bits, what is uncovered, its error, its speed.

    python -m benchmarks.zoo.measure NAME FILE [--device cpu] [--threads 1] [--memory GIB]

Writes FILE. `python -m benchmarks.zoo` runs this for one model after the other.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import re
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import bninv
from benchmarks.common import cuda_timing, harness, json_file
from benchmarks.common.candidate import Candidate
from benchmarks.zoo import results
from benchmarks.zoo.models import IN_HALF, ZOO, Entry
from bninv._structure import tensors
from bninv.checking.audit import find_uncovered
from bninv.checking.bits import digest
from bninv.checking.outputs import by_sample
from bninv.loading.calibration import calibrate_batch_norm, is_untrained, randomize_constants
from bninv.loading.images import Preprocess, find_images, load_samples
from bninv.loading.models import load_model

BATCH_SIZES = (1, 2, 3, 5)
TIMED = (1, 4)
CALIBRATING = 8  # samples, as many as `bninv check` takes
GIB = 1 << 30


def measure(entry: Entry, device: str, seconds: float) -> dict[str, Any]:
    """All that is known of a model afterwards; raises what the model raises."""
    start = time.monotonic()
    stock, images = load(entry)
    stock, images = stock.to(device), images.to(device)
    checked = bninv.check(stock, images, BATCH_SIZES, name=entry.name)
    patched, said = patch_loudly(stock, images)
    found = {
        "parameters": sum(p.numel() for p in stock.parameters()),
        "pixels": images.shape[-1],
        "elements": checked.stock.rows[0].elements,
        "stock_moved": max(row.differing for row in checked.stock.rows),
        "patched_moved": max(row.differing for row in checked.patched.rows),
        "moved_by": [c.kind for c in checked.culprits],
        "inference_mode_moved": samples_moved(patched, images, checked.patched.digests),
        "uncovered": [
            {"operator": u.operator, "count": u.count, "line": u.line} for u in checked.uncovered
        ],
        "calls": [asdict(call) | {"first": short(call.first)} for call in bninv.uncovered(patched)],
        "warnings": said,
        "finite": checked.patched.finite,
        "distinct": checked.patched.distinct,
        "chains": checked.patched.fusion.chains,
        "fused_calls": checked.patched.fusion.calls,
    }
    if checked.equals_cpu is not None:
        found["equals_cpu"] = checked.equals_cpu
    found["errors"] = errors(stock, patched, images)
    found["half"] = in_half(stock, images) if entry.name in IN_HALF else {}
    found["load"] = round(os.getloadavg()[0], 2)
    found["milliseconds"] = [
        timed(stock, patched, images[:size], seconds / len(TIMED)) for size in TIMED
    ]
    found["seconds"] = round(time.monotonic() - start)
    return found


def load(entry: Entry) -> tuple[nn.Module, Tensor]:
    """The stock model, with random weights on which its outputs depend; and five photographs."""
    if entry.options:
        torch.manual_seed(0)
        model = timm.create_model(entry.name, **entry.options).eval()
        randomize_constants(model)
        prepare = Preprocess()
    else:
        loaded = load_model(entry.name)
        model, prepare = loaded.model, loaded.preprocess
    prepare = prepare.resized(entry.pixels)
    images, _ = load_samples(find_images(None), CALIBRATING, prepare)
    if is_untrained(model):
        calibrate_batch_norm(model, images)
    return model, images[: max(BATCH_SIZES)]


def patch_loudly(stock: nn.Module, images: Tensor) -> tuple[nn.Module, list[str]]:
    """The patched model after runs of two batch sizes, and what bninv warned of until then."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patched = bninv.patch(copy.deepcopy(stock))
        with torch.no_grad():
            for size in (1, 3):
                patched(images[:size])
    own = [w for w in caught if w.category.__module__.partition(".")[0] == "bninv"]
    return patched, list(dict.fromkeys(short(str(w.message)) for w in own))


def short(text: str) -> str:
    """Without the folders that a machine keeps its packages in."""
    return re.sub(r"[^\s(]*/site-packages/", "", text)


def samples_moved(patched: nn.Module, images: Tensor, expected: list[str]) -> int:
    """How many samples of a batch have other bits under inference_mode than alone without it."""
    with torch.inference_mode():
        parts, _ = by_sample(patched(images), len(images))
    got = [digest([tensor.cpu() for tensor in part]) for part in parts]
    return sum(a != b for a, b in zip(got, expected, strict=True))


def errors(stock: nn.Module, patched: nn.Module, images: Tensor) -> dict[str, Any]:
    """Of both models' results for each image alone, against stock's in float64.

    `max` is the greatest difference as a part of the greatest element, `rms` the root mean square
    of the differences as a part of that of the elements.
    """
    with torch.no_grad():
        exact = flat(copy.deepcopy(stock).double(), images.double())
        found = {
            name: compare(flat(model, images), exact)
            for name, model in (("stock", stock), ("patched", patched))
        }
    ratios = {
        kind: harness.digits(found["patched"][kind] / found["stock"][kind], 3)
        for kind in ("max", "rms")
        if found["stock"][kind]
    }
    return {**found, "ratio": ratios}


def flat(model: nn.Module, images: Tensor) -> Tensor:
    rows = [tensors(model(image.unsqueeze(0))) for image in images]
    return torch.cat([t.flatten().double() for row in rows for t in row])


def compare(actual: Tensor, exact: Tensor) -> dict[str, float]:
    difference = actual - exact
    greatest = difference.abs().max() / exact.abs().max()
    rms = difference.square().mean().sqrt() / exact.square().mean().sqrt()
    return {"max": harness.digits(float(greatest), 3), "rms": harness.digits(float(rms), 3)}


def in_half(stock: nn.Module, images: Tensor) -> dict[str, Any]:
    """Whether the patched model has one set of bits a sample in each half type; its bits alone."""
    found = {}
    for dtype in (torch.bfloat16, torch.float16):
        model = bninv.patch(copy.deepcopy(stock).to(dtype))
        batch = images[:2].to(dtype)
        uncovered = find_uncovered(model, batch)
        try:
            with torch.no_grad():
                bninv.testing.assert_batch_invariant(model, batch, (2, 5))
            moved = ""
        except AssertionError as error:
            moved = str(error)
        found[str(dtype).removeprefix("torch.")] = {
            "moved": moved,
            "uncovered": [u.operator for u in uncovered],
        }
    return found


def timed(stock: nn.Module, patched: nn.Module, images: Tensor, seconds: float) -> dict[str, Any]:
    """Medians of interleaved calls, and the ratio of stock in its better layout to patched."""
    last: Any = {"memory_format": torch.channels_last}
    nhwc = copy.deepcopy(stock).to(**last)
    runs: dict[str, Callable[[], Any]] = {
        "stock": partial(stock, images),
        "stock channels_last": partial(nhwc, images.to(**last)),
        "patched": partial(patched, images),
    }
    with torch.inference_mode():
        if images.is_cuda:
            candidates = {name: Candidate(lambda *_, run=run: run()) for name, run in runs.items()}
            times = cuda_timing.interleave_calls(candidates, [(images,)], seconds)
        else:
            one = torch.get_num_threads() == 1
            clock = time.process_time if one else time.perf_counter
            times = harness.interleave(runs, seconds, least=3, warmup=1, clock=clock)
    best = min(times["stock"]["median"], times["stock channels_last"]["median"])
    ratio = harness.digits(best / times["patched"]["median"], 3)
    return {"batch_size": len(images), "ratio": ratio, **times}


def limit_memory(gib: float) -> None:
    """What a process may write to; what it merely maps, such as libraries, is no burden."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * GIB), hard))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[entry.name for entry in ZOO], metavar="NAME")
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args(arguments)
    if given.memory:
        limit_memory(given.memory)
    torch.set_num_threads(given.threads)
    (entry,) = (e for e in ZOO if e.name == given.name)
    about = {**harness.machine(), **(cuda_timing.describe() if "cuda" in given.device else {})}
    now = datetime.datetime.now(datetime.timezone.utc)
    head = {"model": entry.name, "family": entry.family, "key": results.key(), "machine": about}
    head["date"] = now.strftime("%Y-%m-%d")
    try:
        body = measure(entry, given.device, given.seconds)
    # Whatever a model raises is its result.
    except Exception as error:
        body = {"failed": short(f"{type(error).__name__}: {error}")[:500]}
    json_file.write(given.file, {**head, **body})


if __name__ == "__main__":
    main()
