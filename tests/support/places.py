"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
DATA = ROOT / "tests" / "data"
EMULATION = ROOT / "tests" / "emulation"
