"""One stage, in a process of its own; run.py starts it.

python -m tests.gpu.stage matrix --device cuda --folder F --digest D --seconds 60
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

START = time.monotonic()  # the seconds below begin here: imports take some of them

from tests.gpu import device as devices  # noqa: E402
from tests.gpu import record  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a stage, or `describe` for the device alone")
    parser.add_argument("--device", choices=["cuda", "emulated", "cpu"], required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--digest", default="")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    device = devices.named(arguments.device)
    if arguments.name == "describe":
        print(json.dumps(devices.describe(device)))
        return
    module_name, _, variant = arguments.name.partition("-")
    deadline = START + arguments.seconds
    module = importlib.import_module(f"tests.gpu.{module_name}")
    if module_name not in ("build", "cause", "tensor"):  # the first times that, others want none
        device.load()
    record.fill(
        arguments.folder / f"{arguments.name.replace('-', '_')}.json",
        arguments.digest,
        module.work(device, variant, deadline),
        deadline,
        device.synchronize,
    )
    if module_name == "build":
        device.load()  # its row may be known from another machine of this kind


if __name__ == "__main__":
    main()
