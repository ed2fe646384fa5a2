"""The command line: `bninv check MODEL`, also as `python -m bninv`."""

from __future__ import annotations

import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bninv._version import CONTRACT_VERSION, __version__
from bninv.cli.outputs import Outputs
from bninv.cli.run import DTYPES, parse_sizes, run_check, run_repeat
from bninv.loading.usage import one_line

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
        typer.echo(f"bninv {__version__} (contract version {CONTRACT_VERSION})")
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
    device: Annotated[
        str, typer.Option(help="auto (the GPU, where there is one), cpu, cuda, cuda:1, ...")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
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
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page: tables, and a plot over depth."),
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the difference over depth: PNG, SVG, …"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no table.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show where it happened.")
    ] = False,
) -> int:
    """Does an image's result depend on the batch it is in? Check MODEL, stock and patched.

    On a GPU a copy of the patched model also runs on the CPU, on up to 8 images: the bits must be
    the same.

    Exit status: 0 if not a bit of the patched model's outputs moved, every operator in it is
    covered, its outputs are finite and differ between images, and a GPU's are the CPU's; 1 if not
    so; 2 for wrong usage or input. With --repeat: 0 if the patched model's bits are the same in
    every process.
    """
    try:
        with warnings.catch_warnings():
            if not traceback:
                warnings.simplefilter("ignore")  # other libraries' advice; bninv's own is shown
            outputs = Outputs(json_file, html_file, plot_file)
            outputs.validate(repeat is not None)
            sizes = parse_sizes(batch_sizes)
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
            common = (subject, sizes, grad_mode.value, quiet)
            if repeat is None:
                result, weights = run_check(*common, depth=outputs.need_depth)
            else:
                result, weights = run_repeat(*common, repeat)
            if not quiet:
                from bninv.report.terminal import console

                console(stderr=json_file == "-").print(result)
            outputs.write(result, weights)
    except Exception:
        if traceback:
            import traceback as tracebacks

            tracebacks.print_exc()
        raise
    return 0 if result.passed else 1


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
            text = " ".join(message().split()) if message else one_line(error)
            if text or not message:  # without arguments, typer has printed the help instead
                print(f"bninv: error: {text}", file=sys.stderr)
            status = 2
    sys.exit(status)
