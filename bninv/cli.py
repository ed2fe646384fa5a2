"""The command line: `bninv check MODEL`, also as `python -m bninv`."""

from __future__ import annotations

import json
import sys
import warnings
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bninv.loading.usage import UsageError, near_matches

# Never less: the first eight samples calibrate BatchNorm and tell whether outputs differ. Never
# more: larger batches repeat samples.
_FEWEST_SAMPLES, _MOST_SAMPLES = 8, 32
_DTYPES = ("float32", "float16", "bfloat16", "float64")

app = typer.Typer(
    name="bninv",
    help="Batch-invariant, bit-exact inference for PyTorch vision models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a docstring's paragraph
    pretty_exceptions_enable=False,
)


class MemoryFormat(str, Enum):
    """Memory formats of the model and its inputs."""

    contiguous = "contiguous"
    channels_last = "channels_last"


class GradMode(str, Enum):
    """What the model runs under."""

    no_grad = "no_grad"
    inference_mode = "inference_mode"
    grad = "grad"


def _show_version(value: bool) -> None:
    if value:
        import bninv

        typer.echo(f"bninv {bninv.__version__} (contract version {bninv.CONTRACT_VERSION})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command("check")
def check_command(
    model: Annotated[
        str,
        typer.Argument(help="A timm NAME, torchvision:NAME or package.module:callable."),
    ],
    batch_sizes: Annotated[
        str, typer.Option(help="Batch sizes; the first gives the reference bits.")
    ] = "1,2,3,8",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(_DTYPES))] = "float32",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="JPEG or PNG photographs. Default: some that ship with "
            "scikit-image or scikit-learn.",
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input, in pixels. Default: the model's own.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights: safetensors or a torch.save file."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Download the library's weights.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    memory_format: Annotated[
        MemoryFormat, typer.Option(help="Of the model and its inputs.")
    ] = MemoryFormat.contiguous,
    grad_mode: Annotated[GradMode, typer.Option(help="What to run under.")] = GradMode.no_grad,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Compare N fresh processes instead: do the bits repeat?"
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write JSON; to standard output with -."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no table.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show where it happened.")
    ] = False,
) -> int:
    """Does an image's result depend on the batch it is in? Check MODEL, stock and patched.

    Exit status: 0 if not a bit of the patched model's outputs moved, every operator in it is
    covered, and its outputs are finite and differ between images; 1 if not so; 2 for wrong usage
    or input. With --repeat: 0 if the patched model's bits are the same in every process.
    """
    try:
        with warnings.catch_warnings():
            if not traceback:
                warnings.simplefilter("ignore")  # other libraries' advice; bninv's own is shown
            sizes = _sizes(batch_sizes)
            subject = (
                model,
                sizes,
                device,
                dtype,
                images,
                image_size,
                checkpoint,
                pretrained,
                seed,
                memory_format.value,
                threads,
            )
            run = _check if repeat is None else partial(_repeat, repeat)
            result, weights = run(subject, sizes, grad_mode.value, quiet)
    except Exception:
        if traceback:
            import traceback as tracebacks

            tracebacks.print_exc()
        raise
    body = {**result.to_dict(), "weights": weights}
    if json_file == "-":
        print(json.dumps(body, indent=2, allow_nan=False))
    elif json_file is not None:
        try:
            Path(json_file).write_text(json.dumps(body, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise UsageError(f"--json {json_file}: cannot be written ({error.strerror})") from error
    if not quiet:
        from bninv.report import console

        console(stderr=json_file == "-").print(result)
    return 0 if result.passed else 1


def _check(
    subject: tuple[Any, ...], sizes: tuple[int, ...], grad_mode: Any, quiet: bool
) -> tuple[Any, str]:
    model, inputs, labels, weights = _prepare(*subject)
    from bninv.check import check
    from bninv.report import progress_bar

    with progress_bar(enabled=not quiet) as progress:
        result = check(
            model,
            inputs,
            sizes,
            name=subject[0],
            samples=labels,
            grad_mode=grad_mode,
            progress=progress,
        )
    return result, weights


def _repeat(
    processes: int, subject: tuple[Any, ...], sizes: tuple[int, ...], grad_mode: Any, quiet: bool
) -> tuple[Any, str]:
    from bninv.checking.repeat import RepeatResult, in_fresh_processes
    from bninv.report import progress_bar

    with progress_bar(enabled=not quiet, label="running process {}") as progress:
        arguments = (subject, sizes, grad_mode)
        found = in_fresh_processes(_run_once, arguments, processes, progress)
    weights = found[0][1]
    return RepeatResult(subject[0], subject[2], subject[3], sizes, [f[0] for f in found]), weights


def _run_once(subject: tuple[Any, ...], sizes: tuple[int, ...], grad_mode: Any) -> tuple[Any, str]:
    """What a fresh process of --repeat does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs, _, weights = _prepare(*subject)
        from bninv.check import GRAD_MODES
        from bninv.checking.repeat import digests

        return digests(model, inputs, sizes, GRAD_MODES[grad_mode]), weights


def _prepare(
    name: str,
    sizes: tuple[int, ...],
    device_name: str,
    dtype_name: str,
    folder: Path | None,
    image_size: int | None,
    checkpoint: Path | None,
    pretrained: bool,
    seed: int,
    memory_format: str,
    threads: int | None,
) -> tuple[Any, Any, list[str], str]:
    # Cheap checks first, slow imports after them.
    if dtype_name not in _DTYPES:
        hint = near_matches(dtype_name, _DTYPES) or f"; it may be {', '.join(_DTYPES)}"
        raise UsageError(f"--dtype {dtype_name}: unknown{hint}")
    import torch

    from bninv import _extension
    from bninv.checking.runner import CheckError
    from bninv.loading.calibration import calibrate_batch_norm
    from bninv.loading.images import find_images, load_samples
    from bninv.loading.models import load_model

    device = _device(device_name)
    if threads is not None:
        torch.set_num_threads(threads)
    paths = find_images(folder)
    loaded = load_model(name, pretrained=pretrained, checkpoint=checkpoint, seed=seed)
    prepare = loaded.preprocess.resized(image_size)
    count = min(max(_FEWEST_SAMPLES, *sizes), _MOST_SAMPLES)
    inputs, labels = load_samples(paths, count, prepare)

    weights = loaded.weights
    if loaded.untrained:
        try:
            if calibrate_batch_norm(loaded.model, inputs[:_FEWEST_SAMPLES]):
                weights += ", BatchNorm calibrated on the images"
        except Exception as error:
            raise CheckError(
                f"{name} failed on images of shape {tuple(inputs.shape)}: {error}"
            ) from error
    dtype = getattr(torch, dtype_name)
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    try:
        model = loaded.model.to(device=device, dtype=dtype)
        model = model.to(memory_format=layout)  # type: ignore[call-overload]
        inputs = inputs.to(device=device, dtype=dtype, memory_format=layout)
    except RuntimeError as error:
        raise UsageError(f"--device {device_name} --dtype {dtype_name}: {error}") from error
    _extension.load()
    _need_kernels(model, inputs, name)
    return model, inputs, labels, weights


def _need_kernels(model: Any, inputs: Any, name: str) -> None:
    """Refuse a dtype or device for which bninv has nothing at all, before the long run."""
    import copy

    import torch

    from bninv.check import is_patched
    from bninv.patching import patch

    if inputs.dtype == torch.float32 and inputs.device.type == "cpu":
        return
    if not is_patched(patch(copy.deepcopy(model))):
        dtype = str(inputs.dtype).removeprefix("torch.")
        raise UsageError(
            f"{name}: bninv has no {dtype} kernel on {inputs.device} for any layer of it yet; "
            "it has float32 on cpu"
        )


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch-sizes {text}: must be whole numbers of at least 1, like 1,2,3,8")
    return sizes


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: not a device name; it may be cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: PyTorch finds no CUDA device on this machine")
    if device.type == "meta":
        raise UsageError(f"--device {name}: holds no numbers to compare; it may be cpu or cuda")
    try:
        torch.empty(1, device=device)
    except Exception as error:
        raise UsageError(f"--device {name}: no such device here ({_one_line(error)})") from error
    return device


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:399] + "…"


def main() -> None:
    """The `bninv` command. Ends the process with its exit status; errors are one line."""
    try:
        status = app(prog_name="bninv", standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        # Of typer's own exceptions, those that are messages for the user have format_message
        # (typer brings its own click, so there is no class to name here).
        if isinstance(error, typer.Abort):
            status = 130
        else:
            message = getattr(error, "format_message", None)
            text = " ".join(message().split()) if message else _one_line(error)
            if text or not message:  # without arguments, typer has printed the help instead
                print(f"bninv: error: {text}", file=sys.stderr)
            status = 2
    sys.exit(status)
