"""The command line: `bninv check MODEL`, also as `python -m bninv`."""

from bninv.cli.command import main as main
