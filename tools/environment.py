"""Prepares .venv in the project's root for the Makefile; a no-op when it is up to date.

Without --python, .venv is an ordinary virtual environment with everything in requirements-test.txt.
With --python naming an interpreter that has torch, that torch is used as it is: nothing is
installed into it. .venv then sees its packages and only holds what it lacks.

Uses the standard library alone; runs on any Python >= 3.10.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "bninv-environment.json"
OUTER = "bninv_outer.pth"  # in .venv's site-packages: where an interpreter's own packages are

# Run by the interpreter that is asked about; prints one line of JSON.
PROBE = """
import importlib.metadata as metadata, json, site, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
def importable(name):
    try:
        __import__(name)
        return True
    except ImportError:
        return False
folders = getattr(site, "getsitepackages", list)()
if site.ENABLE_USER_SITE:
    folders.append(site.getusersitepackages())
print(json.dumps({
    "python": list(sys.version_info[:2]),
    "executable": sys.executable,
    "venv": importable("venv") and importable("ensurepip"),
    "versions": {name: version(name) for name in ("torch", "torchvision")},
    "folders": [f for f in folders if f in sys.path],
}))
"""


def fail(text: str) -> NoReturn:
    """Say in one line what is missing, and stop."""
    sys.exit(f"bninv: {text}")


def say(text: str) -> None:
    print(f"bninv: {text}", flush=True)


def probe(python: str) -> dict:
    """What the interpreter `python` is and has."""
    try:
        done = subprocess.run([python, "-c", PROBE], check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        fail(f"{python!r} is not a Python interpreter that runs: name another with PYTHON=...")


def requirements(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def check_compiler() -> None:
    command = shlex.split(os.environ.get("CXX") or "c++")
    if not command or shutil.which(command[0]) is None:
        fail(
            f"no C++ compiler ({' '.join(command)!r} is not on PATH): install one, for example "
            "with `apt install g++` or `dnf install gcc-c++`, or name one with CXX=..."
        )


def create_venv(found: dict) -> None:
    if VENV_PYTHON.exists():
        return
    if not found["venv"]:
        fail(
            f"{found['executable']} has no venv module: install it, for example with "
            "`apt install python3-venv`"
        )
    say(f"creating .venv with {found['executable']}")
    done = subprocess.run([found["executable"], "-m", "venv", str(VENV)], check=False)
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        fail("creating .venv failed; the lines above say why")


def borrow_packages(found: dict) -> tuple[list[str], list[str]]:
    """Let .venv see the interpreter's packages; returns what to install and pip's constraints."""
    torch_version = found["versions"]["torch"]
    major_minor = tuple(int(part) for part in torch_version.split("+")[0].split(".")[:2])
    if major_minor < (2, 10):
        fail(f"{found['executable']} has torch {torch_version}; bninv needs at least 2.10")
    site_packages = subprocess.run(
        [str(VENV_PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    lines = ["import site", *(f"site.addsitedir({folder!r})" for folder in found["folders"])]
    Path(site_packages, OUTER).write_text("; ".join(lines) + "\n")
    kept = {name: version for name, version in found["versions"].items() if version}
    wanted = []
    for line in requirements(ROOT / "requirements-test.txt"):
        name = line.split("=")[0]
        if name not in kept:
            # The torchvision that fits this torch, not the pinned one.
            wanted.append("torchvision" if name == "torchvision" else line)
    return wanted, [f"{name}=={version}" for name, version in kept.items()]


def pip_install(wanted: list[str], constraints: list[str]) -> None:
    limits = VENV / "bninv-constraints.txt"
    limits.write_text("".join(f"{line}\n" for line in constraints))
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--progress-bar", "on" if sys.stdout.isatty() else "off"]
    if subprocess.run([*pip, "-c", str(limits), *wanted], check=False, cwd=ROOT).returncode:
        fail("pip could not install what is needed (the lines above say why); run make again")


def prepare(python: str | None) -> None:
    """Bring .venv to the state requirements-test.txt and `python` ask for."""
    text = (ROOT / "requirements-test.txt").read_bytes() + Path(__file__).read_bytes()
    state = {"requirements": hashlib.sha256(text).hexdigest()}
    old = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    if python:
        state["python"] = shutil.which(python) or python
    elif "python" in old and VENV_PYTHON.exists():
        # Once chosen, an interpreter stays: `make test` after `make demo PYTHON=...`.
        state["python"] = old["python"]
    if old == state and VENV_PYTHON.exists():
        return
    check_compiler()
    if old and old.get("python") != state.get("python"):
        say("another interpreter was chosen: making .venv anew")
        shutil.rmtree(VENV)
    found = probe(state.get("python") or sys.executable)
    if found["python"] < [3, 10]:
        fail(
            f"{found['executable']} is Python {found['python'][0]}.{found['python'][1]}; "
            "bninv needs at least 3.10: name another with PYTHON=..."
        )
    create_venv(found)
    inside = probe(str(VENV_PYTHON))
    if inside["python"] != found["python"]:
        fail(f".venv was made with another Python than {found['executable']}: remove .venv first")
    # .venv's own interpreter, named as PYTHON, is the ordinary case.
    own = Path(found["executable"]).absolute() == VENV_PYTHON
    if state.get("python") and found["versions"]["torch"] and not own:
        say(f"using torch {found['versions']['torch']} of {found['executable']} as it is")
        say("installing what it lacks into .venv (downloads at most about 300 MB)")
        pip_install(*borrow_packages(found))
    else:
        if not inside["versions"]["torch"]:
            say(
                "downloading PyTorch's CUDA build with its libraries and the test tools into "
                ".venv: 2 to 3 GB, about 5 GB on disk (PYTHON=... uses a torch you already have)"
            )
        pip_install(requirements(ROOT / "requirements-test.txt"), [])
    STAMP.write_text(json.dumps(state))


def prepare_lint() -> None:
    """Install the pinned checkers into .venv, if it lacks them."""
    wanted = requirements(ROOT / "requirements-dev.txt")
    script = "import sys, importlib.metadata as m\nfor r in sys.argv[1:]:\n"
    script += "    n, v = r.split('==')\n    assert m.version(n) == v"
    have = subprocess.run(
        [str(VENV_PYTHON), "-c", script, *wanted], check=False, stderr=subprocess.DEVNULL
    )
    if have.returncode:
        say("downloading the pinned formatters and checkers into .venv (about 30 MB)")
        pip_install(wanted, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="an interpreter whose torch is to be used")
    parser.add_argument("--lint", action="store_true", help="also the formatters and checkers")
    arguments = parser.parse_args()
    prepare(arguments.python or None)
    if arguments.lint:
        prepare_lint()


if __name__ == "__main__":
    main()
