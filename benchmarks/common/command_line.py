"""The options that the benchmarks against stock share, read by the standard library alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import cuda_timing
from benchmarks.common.harness import machine
from benchmarks.common.places import RESULTS
from benchmarks.common.result_file import ResultFile, Row

# What an option is when it was not given.
Defaults = dict[str, Any]

# Load average above which timings of several threads on the CPU are not to be trusted.
BUSY = 0.5


def parser(description: str, on_cpu: Defaults, on_cuda: Defaults) -> argparse.ArgumentParser:
    """The shared options."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--device", choices=("cpu", "cuda", "auto"), default="auto")
    made.add_argument(
        "--folder",
        type=Path,
        help="for the results; default: benchmarks/results, on CUDA the GPU's own folder in it",
    )
    made.add_argument(
        "--seconds",
        type=float,
        help="time for each row, in all; default: {:g}, on CUDA {:g}".format(
            on_cpu["seconds"], on_cuda["seconds"]
        ),
    )
    made.add_argument("--threads", type=positive, help="default: PyTorch's")
    made.add_argument(
        "--budget",
        type=float,
        help="begin no row after so many seconds; 0: no limit; default: {:g}, on CUDA {:g}".format(
            on_cpu["budget"], on_cuda["budget"]
        ),
    )
    made.add_argument(
        "--resume", action="store_true", help="go on after the last row of the file that is there"
    )
    made.add_argument("--write-results", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--plot", action=argparse.BooleanOptionalAction, default=True)
    return made


def names(text: str) -> list[str]:
    return text.split(",")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; it may be a positive integer")
    return int(text)


def numbers(text: str) -> list[int]:
    return [positive(value) for value in text.split(",")]


def add_lists(made: argparse.ArgumentParser, on_cpu: Defaults, on_cuda: Defaults) -> None:
    """--models, --batch-sizes and --dtypes, comma-separated, the most important one first."""
    for key, kind in {"models": names, "batch_sizes": numbers, "dtypes": names}.items():
        shown = [",".join(map(str, defaults[key])) for defaults in (on_cpu, on_cuda)]
        made.add_argument(
            f"--{key.replace('_', '-')}",
            type=kind,
            help="comma-separated; default: {}; on CUDA: {}".format(*shown),
        )


def settle(
    made: argparse.ArgumentParser, given: argparse.Namespace, on_cpu: Defaults, on_cuda: Defaults
) -> None:
    """Choose the device, and fill in what was not given from its defaults."""
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.device == "cuda" and not torch.cuda.is_available():
        made.error("argument --device: torch finds no GPU")
    for option, default in (on_cuda if given.device == "cuda" else on_cpu).items():
        if getattr(given, option) is None:
            setattr(given, option, default)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    if given.folder is None:
        given.folder = RESULTS / cuda_timing.slug() if given.device == "cuda" else RESULTS


def need_known(
    made: argparse.ArgumentParser, option: str, values: list[str], known: Collection[str]
) -> None:
    for value in values:
        if value not in known:
            made.error(f"argument {option}: {value!r}; there are {', '.join(known)}")


def result_file(
    name: str, given: argparse.Namespace, summarize: Callable[[list[Row]], dict[str, list[Row]]]
) -> ResultFile:
    """FOLDER/NAME.json, on the CPU NAME_cpu.json."""
    on_gpu = given.device == "cuda"
    about = {**machine(), **(cuda_timing.describe() if on_gpu else {})}
    path = given.folder / f"{name}{'' if on_gpu else '_cpu'}.json"
    arguments = {
        key: value
        for key, value in vars(given).items()
        if key not in ("folder", "budget", "resume", "plot", "write_results", "threads")
    }
    results = ResultFile(
        path if given.write_results else None, about, arguments, summarize, resume=given.resume
    )
    load = os.getloadavg()[0]
    results.measured.setdefault("load_average_before", round(load, 2))
    if load > BUSY and not on_gpu:
        print(
            f"The load average is {load:.1f}: others use this machine. Then an operator's threads "
            "wait for each other far longer than they work, and the ratios count operators.",
            file=sys.stderr,
        )
    return results
