"""What `bninv check` does once its arguments are read: makes model and inputs, and runs them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from bninv.loading.usage import UsageError, near_matches
from bninv_cli import DTYPES

# Never less: the first eight samples calibrate BatchNorm and tell whether outputs differ. Never
# more: larger batches repeat samples.
_FEWEST_SAMPLES, _MOST_SAMPLES = 8, 32


class Subject(NamedTuple):
    """What the command line says of the model, its inputs and where they run."""

    name: str
    sizes: tuple[int, ...]
    device_name: str
    dtype_name: str
    folder: Path | None
    image_size: int | None
    checkpoint: Path | None
    pretrained: bool
    seed: int
    memory_format: str
    threads: int | None
    mixed_sizes: bool


class _Prepared(NamedTuple):
    model: Any
    inputs: Any
    labels: list[str]
    weights: str  # where they are from
    on_the_cpu: str  # why, where there is a GPU and nobody asked for the CPU
    mixed: Any = None  # a detector's images of several sizes
    random: bool = False  # whether the weights are
    detector_side: int | None = None  # what a detector was made to resize to


def run_check(
    subject: Subject,
    sizes: tuple[int, ...],
    grad_mode: Any,
    quiet: bool,
    depth: bool,
    pictures: bool,
    precision: str,
    record: Path | None,
) -> Any:
    """A CheckResult; `record` is the file of one to write."""
    prepared = _prepare(subject)
    _say(prepared.on_the_cpu)
    from bninv.checking.check_model import check
    from bninv.report.terminal import progress_bar

    with progress_bar(enabled=not quiet) as progress:
        result = check(
            prepared.model,
            prepared.inputs,
            sizes,
            name=subject.name,
            samples=prepared.labels,
            grad_mode=grad_mode,
            depth=depth,
            mixed=prepared.mixed,
            pictures=pictures,
            precision=precision,  # type: ignore[arg-type]
            progress=progress,
        )
    result.weights = prepared.weights
    if record is not None:
        from bninv.cli.audit import save_record

        checkpoint = subject.checkpoint
        source = {
            "model": subject.name,
            "pretrained": subject.pretrained,
            "seed": subject.seed,
            "random": prepared.random,
            "checkpoint": None if checkpoint is None else checkpoint.name,
            "detector_side": prepared.detector_side,
        }
        save_record(record, prepared.model, prepared.inputs, precision, source)
    return result


def run_repeat(
    subject: Subject, sizes: tuple[int, ...], grad_mode: Any, quiet: bool, processes: int
) -> Any:
    """A RepeatResult."""
    from bninv.checking.repeat import RepeatResult, in_fresh_processes
    from bninv.checking.repeat_detections import summarize
    from bninv.report.terminal import progress_bar

    with progress_bar(enabled=not quiet, label="running process {}") as progress:
        arguments = (subject, sizes, grad_mode)
        found = in_fresh_processes(_run_once, arguments, processes, progress)
    _, device, weights, on_the_cpu = found[0][:4]
    _say(on_the_cpu)
    digests = [f[0] for f in found]
    result = RepeatResult(subject.name, device, subject.dtype_name, sizes, digests, weights)
    result.detections = summarize([f[4] for f in found], [f[5] for f in found if f[5]])
    return result


def _run_once(
    subject: Subject, sizes: tuple[int, ...], grad_mode: Any
) -> tuple[Any, str, str, str, Any, str]:
    """What a fresh process of --repeat does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs, _, weights, on_the_cpu, *_ = _prepare(subject)
        from bninv.checking.check_model import GRAD_MODES
        from bninv.checking.inputs import first
        from bninv.checking.repeat import digest_of_weights, digests
        from bninv.detection import is_detector
        from bninv.loading.models import load_model

        boxes: Any = {}
        found = digests(model, inputs, sizes, GRAD_MODES[grad_mode], boxes)
        unseeded = ""
        if weights.startswith(("random", "as ")) and is_detector(model):
            # What a script makes that does not seed, and loads no weights unless its model does.
            unseeded = digest_of_weights(load_model(subject.name, seed=None).model)
        return found, str(first(inputs).device), weights, on_the_cpu, boxes, unseeded


def _say(text: str) -> None:
    if text:
        print(f"bninv: {text}", file=sys.stderr, flush=True)


def _prepare(subject: Subject) -> _Prepared:
    # Cheap checks first, slow imports after them.
    if subject.dtype_name not in DTYPES:
        hint = near_matches(subject.dtype_name, DTYPES) or f"; it may be {', '.join(DTYPES)}"
        raise UsageError(f"--dtype {subject.dtype_name}: unknown{hint}")
    import torch

    from bninv._structure import map_tensors
    from bninv.checking.arrangements import build_batch
    from bninv.checking.runner import CheckError
    from bninv.loading.calibration import calibrate_batch_norm
    from bninv.loading.detectors import prepare_untrained
    from bninv.loading.device import check_device, load_for
    from bninv.loading.images import find_images
    from bninv.loading.models import load_model
    from bninv.loading.samples import load_inputs, load_mixed

    check_device(subject.device_name)
    if subject.threads is not None:
        torch.set_num_threads(subject.threads)
    paths = find_images(subject.folder)
    loaded = load_model(
        subject.name,
        pretrained=subject.pretrained,
        checkpoint=subject.checkpoint,
        seed=subject.seed,
    )
    prepare = loaded.preprocess.resized(subject.image_size)
    count = min(max(_FEWEST_SAMPLES, *subject.sizes), _MOST_SAMPLES)
    inputs, labels = load_inputs(loaded.kind, paths, count, prepare, loaded.frames)

    if subject.mixed_sizes and loaded.kind != "detection":
        raise UsageError(
            f"--sizes mixed: {subject.name} is no detector of torchvision's, and its images have "
            "one size"
        )
    mixed = load_mixed(paths, _FEWEST_SAMPLES, prepare) if subject.mixed_sizes else None

    weights = [loaded.weights]
    detector_side = None
    if loaded.untrained:
        if loaded.kind == "detection":
            detector_side = prepare.size[1]
            weights += prepare_untrained(loaded.model, detector_side)
        try:
            few = build_batch(inputs, list(range(_FEWEST_SAMPLES)))
            if calibrate_batch_norm(loaded.model, few):
                weights.insert(1, "BatchNorm calibrated on the images")
        except Exception as error:
            shape = (count, *prepare.size)
            raise CheckError(
                f"{subject.name} failed on images of shape {shape}: {error}"
            ) from error
    dtype = getattr(torch, subject.dtype_name)
    layout = torch.contiguous_format
    if subject.memory_format == "channels_last":
        layout = torch.channels_last_3d if loaded.kind == "video" else torch.channels_last
    device, on_the_cpu = load_for(subject.device_name)
    try:
        model = loaded.model.to(device=device, dtype=dtype)
        model = model.to(memory_format=layout)  # type: ignore[call-overload]
        inputs = map_tensors(lambda t: _moved(t, device, dtype, layout), inputs)
        mixed = map_tensors(lambda t: _moved(t, device, dtype, layout), mixed)
    except RuntimeError as error:
        raise UsageError(
            f"--device {subject.device_name} --dtype {subject.dtype_name}: {error}"
        ) from error
    _need_kernels(model, inputs, subject.name)
    said = ", ".join(weights)
    random = loaded.untrained
    return _Prepared(model, inputs, labels, said, on_the_cpu, mixed, random, detector_side)


def _moved(tensor: Any, device: Any, dtype: Any, layout: Any) -> Any:
    moved = tensor.to(device=device, dtype=dtype)
    # One image of a detector's has no batch's layout: the model makes the batch.
    return moved if moved.dim() < 4 else moved.contiguous(memory_format=layout)


def _need_kernels(model: Any, inputs: Any, name: str) -> None:
    """Refuse a dtype or device for which bninv has nothing at all, before the long run."""
    import copy

    import torch

    from bninv.checking.check_model import is_patched
    from bninv.checking.inputs import first
    from bninv.patching import patch

    tensor = first(inputs)
    if tensor.dtype == torch.float32 and tensor.device.type == "cpu":
        return
    if not is_patched(patch(copy.deepcopy(model))):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise UsageError(
            f"{name}: bninv has no {dtype} kernel on {tensor.device} for any layer of it yet; "
            "it has float32 on cpu"
        )


def parse_sizes(text: str) -> tuple[int, ...]:
    """The numbers of --batch-sizes."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch-sizes {text}: must be whole numbers of at least 1, like 1,2,3,8")
    return sizes
