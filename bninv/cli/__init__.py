"""What the commands do. The command line itself is `bninv_cli`, which answers without PyTorch."""

from bninv_cli import main as main
