"""Traces a block with torch.fx: its code runs once on proxies, and on shells of its modules.

So nothing of the block's is touched or called, and no other thread sees anything: torch.fx's own
`Tracer` would set `nn.Module.__call__` for the whole process.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import Proxy

from bninv._protection import outside_all_modes
from bninv.fusing.proxies import DEVICES, BlockTracer, OnlyProxies, Unfusable
from bninv.fusing.shells import Site
from bninv.fusing.structure import Structure, build
from bninv.fusing.trust import untrusted


def trace(block: nn.Module, structure: Structure, trust: tuple[str, ...]) -> BlockTracer:
    """The calls of a block's forward on arguments of that structure.

    Raises:
        Unfusable: the code is not trusted, or does something that a graph does not hold.
    """
    tracer = BlockTracer(trust, protects=hasattr(block, "_bninv_policy"))
    site = Site(tracer, block)
    package = untrusted(site.stock, trust)
    if package is not None:
        top = package if package == "__main__" else package.partition(".")[0]
        raise Unfusable(
            f"nobody vouches for the code of {package}: `bninv.patch(model, trust=({top!r},))` "
            'does, and `torch.compile(model, backend="bninv")` fuses any code'
        )
    grad = torch.is_grad_enabled()
    autocast = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in DEVICES]
    with outside_all_modes(), torch.inference_mode(False):
        torch.set_grad_enabled(True)
        for device in DEVICES:
            torch.set_autocast_enabled(device, True)
            torch.set_autocast_dtype(device, torch.float64)
        try:
            args = build(structure, lambda: _placeholder(tracer), tracer.lend)
            with OnlyProxies(tracer):
                result = site.run_forward(*args)
            tracer.finish(result)
        except Unfusable as error:
            raise Unfusable(next(iter(tracer.refused), str(error))) from None
        except Exception as error:
            # Whatever the code raises when it meets a proxy.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise Unfusable(f"torch.fx cannot trace it: {lines[0]}") from error
        finally:
            torch.set_grad_enabled(grad)
            for device, enabled, dtype in autocast:
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
    return tracer


def _placeholder(tracer: BlockTracer) -> Proxy:
    return tracer.create_proxy("placeholder", f"x{len(tracer.graph.nodes)}", (), {})
