"""Records a block's forward by running its code on stand-ins, for tensors and for modules.

So nothing of the block's is touched or called, no other thread sees anything, and every attribute
that the code looks at is known.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bninv._protection import outside_all_modes
from bninv.fusing.effects import Watch
from bninv.fusing.errors import Unfusable
from bninv.fusing.modes import unusual_modes
from bninv.fusing.proxies import BlockProxy, OnlyProxies
from bninv.fusing.recording import Recording
from bninv.fusing.stand_in import Site
from bninv.fusing.structure import Structure, build


def record(block: nn.Module, structure: Structure) -> Recording:
    """The calls of a block's forward on arguments of that structure.

    Raises:
        Unfusable: the code does something that a recording does not hold.
    """
    with outside_all_modes(), unusual_modes():
        recording = Recording(block)
        try:
            return _record(recording, block, structure)
        except Unfusable:
            raise
        except Exception as error:
            # Whatever the code raises when it meets a proxy.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise Unfusable(f"torch.fx cannot trace it: {lines[0]}") from error


def _record(recording: Recording, block: nn.Module, structure: Structure) -> Recording:
    site = recording.sites[()] = Site(recording, block, ())
    recording.whole(())
    args = build(structure, recording.placeholder, recording.lend)
    watch = Watch(recording.has_foreign_code)
    with OnlyProxies():
        result = watch.run(lambda: site.run_forward(*args))
    recording.take_back()
    _check_result(recording, result)
    recording.graph.output(recording.tracer.create_arg(result))
    recording.globals_read = list(watch.globals_read.values())
    return recording


def _check_result(recording: Recording, result: Any) -> None:
    kind = type(result)
    if kind is dict:
        if not all(type(key) is str for key in result):
            raise Unfusable("it returns a dict with keys that are no strings")
        result = tuple(result.values())
    elif kind not in (list, tuple):
        if kind is not BlockProxy and kind not in (type(None), bool, int, float, str):
            raise Unfusable(f"it returns a {kind.__name__}")
        return
    if recording.is_lent(result):
        raise Unfusable("it returns a list that it was given")
    for part in result:
        _check_result(recording, part)
