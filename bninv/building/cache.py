"""The user's folder of compiled operators, which several processes may use at a time.

It holds

    KEY/_C.so            a finished library; KEY is the sources' key and the toolchain's
    KEY.lock             locked by the process that builds KEY; the kernel unlocks it if that dies
    KEY.tmp-XXXXXXXX/    a build in progress, renamed to KEY when finished
    KEY.log              the compiler's output, when a build failed

Imports neither torch nor anything that does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from .recipe import BuildError


def cache_dir() -> Path:
    """The user's private folder for compiled operators, created if it is missing.

    $BNINV_CACHE_DIR, else $XDG_CACHE_HOME/bninv, else ~/.cache/bninv.

    Raises:
        BuildError: it cannot be created, or others could put a library of theirs into it.
    """
    if named := os.environ.get("BNINV_CACHE_DIR"):
        folder = Path(named).absolute()
    elif base := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(base).absolute() / "bninv"
    else:
        try:
            folder = Path.home() / ".cache" / "bninv"
        except RuntimeError:
            raise BuildError(
                "this user has no home folder to keep compiled operators in: set BNINV_CACHE_DIR "
                "to a folder that can be written"
            ) from None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise cannot_write(folder, error) from None
    # What is loaded from here runs with the user's rights. Root could do that anyway.
    if found.st_uid not in (os.getuid(), 0):
        raise BuildError(
            f"the cache folder {folder} belongs to another user (uid {found.st_uid}): set "
            "BNINV_CACHE_DIR to a folder of your own"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"the cache folder {folder} can be written by other users (mode "
            f"{stat.S_IMODE(found.st_mode):o}): run `chmod go-w` on it, or set BNINV_CACHE_DIR"
        )
    return folder


def cannot_write(folder: Path, error: OSError) -> BuildError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(
            f"no space left for compiled operators in {folder}: free some, or set BNINV_CACHE_DIR "
            "to a folder on another disk"
        )
    return BuildError(
        f"cannot write compiled operators to {folder} ({error.strerror or error}): set "
        "BNINV_CACHE_DIR to a folder that can be written"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`. It dies with the process: a killed build blocks nobody."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is compiling the operators")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: the build may be done twice, and the rename decides.
            pass
        yield


def remove_abandoned(cache: Path, key: str) -> None:
    """Remove what killed builds left behind.

    Called with the lock on `key` held, so nobody else builds that key; builds of other keys are
    removed if their lock is free.
    """
    for folder in cache.glob("*.tmp-*"):
        owner = folder.name.split(".tmp-")[0]
        if owner == key:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with contextlib.suppress(OSError), (cache / f"{owner}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    print(f"bninv: {text}", file=sys.stderr, flush=True)
