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
from bninv.fusing.proxies import OnlyProxies
from bninv.fusing.recording import Recording
from bninv.fusing.stand_in import Site
from bninv.fusing.structure import Structure, build


def record(block: nn.Module, structure: Structure) -> Recording:
    """The calls of a block's forward on arguments of that structure.

    Raises:
        Unfusable: the code does something that a recording does not hold.
    """
    recording = Recording(block)
    site = recording.sites[()] = Site(recording, block, ())
    recording.whole(())

    def run() -> Any:
        return site.run_forward(*build(structure, recording.placeholder))

    watch = Watch(recording.has_foreign_code)
    try:
        with outside_all_modes(), OnlyProxies():
            result = watch.run(run)
        recording.take_back()
        recording.graph.output(recording.tracer.create_arg(result))
    except Unfusable:
        raise
    except Exception as error:
        # Whatever the code raises when it meets a proxy: a condition on a tensor's values or size.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise Unfusable(f"torch.fx cannot trace it: {lines[0]}") from error
    recording.globals_read = list(watch.globals_read.values())
    return recording
