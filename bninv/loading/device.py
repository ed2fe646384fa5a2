"""What --device says: a device that is here and that bninv has kernels for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bninv.building import cuda_choice, extension
from bninv.building.recipe import BuildError
from bninv.loading.usage import UsageError, one_line

AUTO = "auto"


def check_device(name: str) -> None:
    """Whether PyTorch has the device; of `auto` there is nothing to check.

    Raises:
        UsageError: it has not.
    """
    if name == AUTO:
        return
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"--device {name}: not a device name; it may be auto, cpu or cuda"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: PyTorch finds no CUDA device on this machine")
    if device.type == "meta":
        raise UsageError(f"--device {name}: holds no numbers to compare; it may be cpu or cuda")
    try:
        torch.empty(1, device=device)
    except Exception as error:
        raise UsageError(f"--device {name}: no such device here ({one_line(error)})") from error


def load_for(name: str) -> tuple[torch.device, str]:
    """Load the operators, compiled if need be, and choose the device that they are to run on.

    Returns:
        the device, and why `auto` takes the CPU although there is a GPU; empty if it does not, or
        if BNINV_BUILD=cpu asked for it.

    Raises:
        UsageError: a GPU is named that the operators have no kernels for.
        BuildError: the operators cannot be compiled here; or BNINV_BUILD is `cuda`, and those for
            the GPU cannot.
    """
    named = torch.device("cuda" if name == AUTO else name)
    if named.type != "cuda" or not torch.cuda.is_available():
        extension.load()
        return torch.device("cpu") if name == AUTO else named, ""
    said: list[str] = []
    if name == AUTO:
        _load_or_for_the_cpu(said)
    else:
        extension.load(said.append)
    reason = _why_not(named, said)
    if not reason:
        return named, ""
    if name != AUTO:
        raise UsageError(f"--device {name}: {reason}")
    asked_for = cuda_choice.requested_build() == "cpu" and not extension.has_cuda()
    return torch.device("cpu"), "" if asked_for else f"checking on the CPU: {reason}"


def _load_or_for_the_cpu(said: list[str]) -> None:
    try:
        extension.load(said.append)
    except BuildError as error:
        if cuda_choice.requested_build() != "auto":
            raise
        # What fails without CUDA as well fails again, with its own message.
        with _build_for_the_cpu():
            extension.load()
        said.append(one_line(error))


@contextmanager
def _build_for_the_cpu() -> Iterator[None]:
    before = os.environ.get("BNINV_BUILD")
    os.environ["BNINV_BUILD"] = "cpu"
    try:
        yield
    finally:
        del os.environ["BNINV_BUILD"]
        if before is not None:
            os.environ["BNINV_BUILD"] = before


def _why_not(gpu: torch.device, said: list[str]) -> str:
    """Why nothing can run on the GPU, in one line, or "". `said`: what loading had to say."""
    if not extension.has_cuda():
        return "; ".join(said) or (
            "no CUDA kernels, although a GPU is present: bninv's operators were compiled without "
            "(BNINV_BUILD=cuda compiles them with CUDA, or says what is missing)"
        )
    try:
        have = ".".join(map(str, torch.cuda.get_device_capability(gpu)))
        compiled = extension.cuda_build().partition(";")[2].split(",")
        if not cuda_choice.runs_on(have, compiled):
            return (
                f"the GPU has compute capability {have}, and bninv's operators were compiled for "
                f"{', '.join(compiled)}: compile them anew, with {have} in TORCH_CUDA_ARCH_LIST"
            )
        torch.ones(1, device=gpu).cpu()
    except Exception as error:
        return f"PyTorch cannot use the GPU ({one_line(error)})"
    return ""
