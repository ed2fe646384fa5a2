"""bninv.check: does a sample's result depend on the batch it is in, before and after patching?"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from bninv._arguments import Precision, need_precision
from bninv._shown import shown
from bninv.checking.inputs import as_samples, count, first, need_samples
from bninv.checking.padding import PaddingCheck
from bninv.checking.result import CheckResult as CheckResult
from bninv.checking.result import CpuSide, PatchedSide, TensorCores
from bninv.checking.runner import CheckError, Progress, Runner, one_line
from bninv.detection import Images
from bninv.dispatch import NotInvariantWarning
from bninv.dispatch.modules import policy_of
from bninv.modules.base import Patched
from bninv.patching import patch, unpatch
from bninv.patching.products import products
from bninv.precision import meaning

GradMode = Literal["no_grad", "inference_mode", "grad"]

GRAD_MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad": torch.enable_grad,
}


def check(
    model: nn.Module,
    inputs: Any,
    batch_sizes: Sequence[int] = (1, 2, 3, 8),
    *,
    name: str | None = None,
    samples: Sequence[str] | None = None,
    grad_mode: GradMode = "no_grad",
    depth: bool = False,
    mixed: Any = None,
    pictures: bool = False,
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Run `model`, stock and patched, on the same samples in many batches; compare the bits.

    On a GPU a copy of the patched model also runs on the CPU, on up to eight of the samples: its
    bits must be the same (`.cpu`, `.equals_cpu`).

    Args:
        model: any module that maps a batch to a tensor, or to nested tuples, lists, dicts or
            dataclasses of tensors, with the batch first; or to a list with a dict of tensors for
            each sample, as detectors do. Every tensor is compared: `.rows[i].outputs` names them.
            The model is not touched: check works on a deep copy, in eval mode. A model that is
            patched already is checked as it is, against its unpatched copy.
        inputs: N >= 2 samples, shape (N, ...), on the model's device, in the model's dtype. Their
            memory format (contiguous or channels_last) is the batches'. Several tensors, each with
            the samples first: a tuple of the model's arguments, a dict of its keyword arguments, or
            one argument that is a dict with other keys, a list, a named tuple or a dataclass. For a
            detector, which is called with a list of images: `bninv.detection.Images`, or for one
            of torchvision's a list; a tensor will do as well.
        batch_sizes: the first one gives the reference bits (each sample's first result there). At
            every size the samples meet other positions (first, middle, last) and other neighbours:
            rotations, copies of one sample, and NaN- and Inf-filled ones.
        name: what to call the model in the report.
        samples: what to call the samples, N names.
        grad_mode: "no_grad", "inference_mode" or "grad".
        depth: also compare every module's output for one sample, alone and in a batch of the
            largest batch size (at least 2): `.stock.depth` and `.patched.depth`.
        mixed: of a detector, also two or more images of several sizes. Each runs alone and in a
            batch of three: `.padding` counts the images whose detections the padding to the largest
            changed, stock, patched, and patched under `bninv.detection.fixed_size`. Nothing of it
            counts for `.passed`.
        pictures: of a detector, also keep the photographs with the most changes, and their boxes
            alone and in a batch: `.stock.pictures`, which `to_html()` draws.
        precision: what `patch` is told; None: 'ieee', or what a model that is patched already was
            told. Stock runs as PyTorch's own switches say.
        progress: called with (what, done, total) as the work goes on.

    Raises:
        ValueError: an argument makes no sense.
        CheckError: the model cannot be copied or run.
    """
    if isinstance(model, nn.Module):
        inputs = as_samples(model, inputs)
    sizes = _validated(model, inputs, mixed, batch_sizes, grad_mode)
    if precision is not None:
        need_precision(precision)
    labels = list(samples or (f"sample {i}" for i in range(count(inputs))))
    if len(labels) != count(inputs):
        raise ValueError(f"samples: {len(labels)} names for {count(inputs)} samples in inputs")
    depth_batch_size = max(2, *sizes) if depth else None
    mode = GRAD_MODES[grad_mode]
    runner = Runner(inputs, sizes, mode, progress, depth_batch_size, labels, pictures)
    padding = PaddingCheck(mixed, mode)
    try:
        work = copy.deepcopy(model).eval()
    except Exception as error:
        raise CheckError(f"copy.deepcopy(model) failed: {one_line(error)}") from error

    notes: list[str] = []
    if isinstance(inputs, Images) and len({image.shape[-2:] for image in inputs}) > 1:
        notes.append(
            "The images are of several sizes. A detector that pads a batch to its largest image "
            "gives other detections then, patched or not: see bninv.detection.fixed_size."
        )
    if is_patched(model):
        if precision is not None:
            work = patch(work, precision=precision)
        patched, cpu = _patched_sides(runner, work, padding)
        with runner.failing("unpatching", 0):
            work = unpatch(work)
        stock = runner.stock(work)
        padding.stock(runner, work)
    else:
        stock = runner.stock(work)
        padding.stock(runner, work)
        with runner.failing("patching", 0), _bninv_warnings(notes):
            work = patch(work, precision=precision or "ieee")
        patched, cpu = _patched_sides(runner, work, padding)
    runner.compare_with_stock(patched)
    return CheckResult(
        model=name or type(model).__name__,
        device=str(runner.device),
        dtype=str(first(inputs).dtype).removeprefix("torch."),
        batch_sizes=sizes,
        samples=labels,
        stock=stock,
        patched=patched,
        notes=notes,
        depth_batch_size=depth_batch_size,
        cpu=cpu,
        padding=padding.result(),
    )


def _patched_sides(
    runner: Runner, model: nn.Module, padding: PaddingCheck
) -> tuple[PatchedSide, CpuSide | None]:
    # What it would warn of while it runs is in the audit's list, with more to tell.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotInvariantWarning)
        patched = runner.patched(model)
        cpu = runner.cpu(model) if runner.on_gpu else None
        padding.patched(runner, model)
        patched.tensor_cores = _tensor_cores(model, runner.device)
        return patched, cpu


def _tensor_cores(model: nn.Module, device: torch.device) -> TensorCores | None:
    policy = policy_of(model)
    if policy is None or policy.precision == "ieee":
        return None
    found = products(model)
    left = [str(product) for product in found if product.precision == "ieee"]
    return TensorCores(policy.precision, meaning(policy.precision, device), len(found), left)


def is_patched(model: nn.Module) -> bool:
    """Whether any module's class was changed by bninv.patch."""
    return any(isinstance(module, Patched) for module in model.modules())


def _validated(
    model: nn.Module, inputs: Any, mixed: Any, batch_sizes: Sequence[int], grad_mode: str
) -> tuple[int, ...]:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: got {type(model).__name__}, must be a torch.nn.Module")
    need_samples(inputs)
    if mixed is not None and not isinstance(inputs, Images):
        raise ValueError("mixed: images of several sizes are for detectors; leave them out")
    sizes = tuple(batch_sizes)
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if not sizes or not whole or min(sizes) < 1:
        raise ValueError(
            f"batch_sizes: got {shown(batch_sizes)}, must be whole numbers of at least 1"
        )
    if grad_mode not in GRAD_MODES:
        raise ValueError(
            f"grad_mode: got {shown(grad_mode)}, must be one of {', '.join(GRAD_MODES)}"
        )
    return tuple(dict.fromkeys(sizes))


@contextmanager
def _bninv_warnings(notes: list[str]) -> Iterator[None]:
    """Keep what bninv warns of as notes for the report; pass every other warning on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if warning.category.__module__.partition(".")[0] == "bninv":
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
