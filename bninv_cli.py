"""The command line: `bninv check MODEL`, also as `python -m bninv`.

It stands outside of the package, whose import takes PyTorch's two seconds: what can be answered
without (--help, --version, a typo) is answered at once. What a command does is in `bninv.cli`.
"""

from __future__ import annotations

import importlib.util
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

DTYPES = ("float32", "float16", "bfloat16", "float64")

app = typer.Typer(
    name="bninv",
    help="Batch-invariant, bit-exact inference for PyTorch vision models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich's would take longer than all else
    pretty_exceptions_enable=False,
)


class MemoryFormat(str, Enum):
    """Memory formats of the model and its inputs."""

    contiguous = "contiguous"
    channels_last = "channels_last"


class Sizes(str, Enum):
    """Of a detector's images."""

    equal = "equal"
    mixed = "mixed"


class Precision(str, Enum):
    """Of the patched model's products: rule R1, or R9."""

    ieee = "ieee"
    tensor = "tensor"
    tensor_A = "tensor-A"  # noqa: N815 - the class of arithmetic has a capital
    tensor_H = "tensor-H"  # noqa: N815


class GradMode(str, Enum):
    """What the model runs under."""

    no_grad = "no_grad"
    inference_mode = "inference_mode"
    grad = "grad"


# Options that several commands have.
Checkpoint = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights: safetensors or a torch.save file.")
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Download the library's weights.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write JSON; to standard output with -."),
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="On an error, show where it happened.")
]


def _show_version(value: bool) -> None:
    if value:
        spec = importlib.util.find_spec("bninv")  # which does not import it
        assert spec is not None and spec.origin is not None
        found = runpy.run_path(str(Path(spec.origin).with_name("_version.py")))
        typer.echo(f"bninv {found['__version__']} (contract version {found['CONTRACT_VERSION']})")
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
        int | None,
        typer.Option(
            help="Side of the input, in pixels. Default: the model's own; of a detector 128 with "
            "random weights, which then resizes to this side as well, and 480 otherwise."
        ),
    ] = None,
    image_sizes: Annotated[
        Sizes,
        typer.Option(
            "--sizes",
            help="Of a detector's images. mixed: besides the check, three shapes of images alone "
            "and in batches of three, which are padded to their largest. Then the patched model's "
            "boxes may change too, by meaning, not by rounding (see bninv.detection.fixed_size): "
            "this is shown, and counts for nothing in the exit status.",
        ),
    ] = Sizes.equal,
    checkpoint: Checkpoint = None,
    pretrained: Pretrained = False,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    memory_format: Annotated[
        MemoryFormat, typer.Option(help="Of the model and its inputs.")
    ] = MemoryFormat.contiguous,
    grad_mode: Annotated[GradMode, typer.Option(help="What to run under.")] = GradMode.no_grad,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Of the patched model's products. tensor: by a GPU's tensor cores; tensor-A, "
            "tensor-H: the same of a class of GPUs, on a CPU too, slowly."
        ),
    ] = Precision.ieee,
    threads: Threads = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a record of the patched model's results, which `bninv audit` computes "
            "again anywhere (safetensors).",
        ),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Compare N fresh processes instead: do the bits repeat?"
        ),
    ] = None,
    json_file: JsonFile = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page: tables, and a plot over depth."),
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the difference over depth: PNG, SVG, …"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no table.")] = False,
    traceback: Traceback = False,
) -> int:
    """Does an image's result depend on the batch it is in? Check MODEL, stock and patched.

    Of a detector, boxes that appear, vanish, move or change label or score are counted.

    On a GPU a copy of the patched model also runs on the CPU, on up to 8 images: the bits must be
    the same.

    Exit status: 0 if not a bit of the patched model's outputs moved, every operator in it is
    covered, its outputs are finite and differ between images, and a GPU's are the CPU's; 1 if not
    so; 2 for wrong usage or input. With --repeat: 0 if the patched model's bits are the same in
    every process.
    """
    from bninv.cli.outputs import Outputs
    from bninv.cli.run import Subject, parse_sizes, run_check, run_repeat
    from bninv.cli.said import say_why

    with _quietly(traceback):
        outputs = Outputs(json_file, html_file, plot_file, save)
        outputs.validate(repeat is not None)
        if repeat is not None and precision is not Precision.ieee:
            raise typer.BadParameter("--precision: --repeat compares processes under ieee")
        if repeat is not None and image_sizes is Sizes.mixed:
            raise typer.BadParameter("--sizes mixed compares images of one run, --repeat runs")
        sizes = parse_sizes(batch_sizes)
        subject = Subject(
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
            image_sizes is Sizes.mixed,
        )
        common = (subject, sizes, grad_mode.value, quiet)
        if repeat is None:
            result = run_check(
                *common,
                depth=outputs.need_depth,
                pictures=outputs.need_pictures,
                precision=precision.value,
                record=save,
            )
        else:
            result = run_repeat(*common, repeat)
        result.command = _command_line()
        if quiet:
            say_why(result)
        else:
            from bninv.report.terminal import console

            console(stderr=json_file == "-").print(result)
        outputs.write(result)
    return 0 if result.passed else 1


@app.command("audit")
def audit_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A record, by `bninv check --save`.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="As for `bninv check`. Default: the model that the record names."),
    ] = None,
    checkpoint: Checkpoint = None,
    pretrained: Pretrained = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, auto, ...")] = "cpu",
    threads: Threads = None,
    json_file: JsonFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing if equal.")] = False,
    traceback: Traceback = False,
) -> int:
    """Compute a record's results again, and compare every bit: of each output, layer and weight.

    What a GPU's tensor cores gave (tensor-A, tensor-H) is computed on a CPU in their arithmetic.

    Exit status: 0 if all of it is equal, 1 if something differs, 2 for wrong usage or input.
    """
    from bninv.cli.audit import run_audit
    from bninv.cli.outputs import Outputs

    with _quietly(traceback):
        outputs = Outputs(json_file, None, None)
        outputs.validate(False)
        result = run_audit(file, model, checkpoint, pretrained, device, threads)
        if not (quiet and result.equal):
            from bninv.report.terminal import console

            console(stderr=json_file == "-").print(result)
        outputs.write(result)
    return 0 if result.equal else 1


@contextmanager
def _quietly(traceback: bool) -> Iterator[None]:
    """Without other libraries' advice (bninv's own is in the results), unless a traceback is
    wanted, which an error prints here.
    """
    try:
        with warnings.catch_warnings():
            if not traceback:
                warnings.simplefilter("ignore")
            yield
    except Exception:
        if traceback:
            import traceback as tracebacks

            tracebacks.print_exc()
        raise


def _command_line() -> str:
    """What was typed, as a shell takes it."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    return shlex.join([*(("python", "-m") if as_module else ()), "bninv", *sys.argv[1:]])


def main(run: bool = True) -> None:
    """The `bninv` command. Ends the process with its exit status; errors are one line.

    Args:
        run: otherwise only answer what needs no PyTorch, and return if there is nothing.
    """
    try:
        if not run:
            _parse(sys.argv[1:])
            return
        status = app(prog_name="bninv", standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except typer.Exit as ended:
        status = ended.exit_code
    except Exception as error:
        # Of typer's own exceptions, those that are messages for the user have format_message
        # (typer brings its own click, so there is no class to name here).
        if isinstance(error, typer.Abort):
            status = 130
        else:
            message = getattr(error, "format_message", None)
            text = message() if message else str(error) or type(error).__name__
            text = " ".join(text.split())
            text = text if len(text) <= 600 else text[:599] + "…"
            if text or not message:  # without arguments, typer has printed the help instead
                print(f"bninv: error: {text}", file=sys.stderr)
            status = 2
    sys.exit(status)


def _parse(arguments: list[str]) -> None:
    """Read the arguments as the command would; --help and --version end in an Exit of typer's."""
    group: Any = typer.main.get_command(app)
    with group.make_context("bninv", list(arguments)) as context:
        # Where click keeps the command's name, which a group takes off the rest, by its version.
        name = getattr(context, "_protected_args", None) or getattr(context, "protected_args", [])
        _, command, rest = group.resolve_command(context, [*name, *context.args])
        command.make_context(command.name, rest, parent=context)


if __name__ == "__main__":
    main()
