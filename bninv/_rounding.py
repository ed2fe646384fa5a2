"""How often a conversion between dtypes rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bninv._arguments import promoted


def widened(input: Tensor) -> Tensor:
    """In the arithmetic type: float64, or float32."""
    return input if input.dtype in (torch.float32, torch.float64) else input.float()


def converts_exactly(source: torch.dtype, target: torch.dtype) -> bool:
    """Same dtype, a widening one, or an integer rounded once to float32 or float64."""
    if source == target or source == torch.bool:
        return True
    if not source.is_floating_point and not source.is_complex:
        return not target.is_floating_point or target in (torch.float32, torch.float64)
    return promoted(source, target) == target


# To nearest even in one step, subnormals kept: so the CPU and CUDA narrow. From float64 to half
# precision they go through float32, and so they do from one half precision to the other, of which
# float32 holds every value.
_NARROWED_ONCE = {
    torch.float64: (torch.float32,),
    torch.float32: (torch.float16, torch.bfloat16),
    torch.float16: (torch.bfloat16,),
    torch.bfloat16: (torch.float16,),
}


def rounds_once(source: torch.dtype, target: torch.dtype, known: bool) -> bool:
    """Every value is kept, or rounded to nearest once, on a device that is known to do so; or
    compared with 0, to be a boolean.
    """
    if target is torch.bool:
        return True
    narrows = known and target in _NARROWED_ONCE.get(source, ())
    return narrows or converts_exactly(source, target)


def narrows_once(tensors: Sequence[Tensor]) -> bool:
    """Whether these tensors' devices are known to narrow in one rounding."""
    return all(t.device.type in ("cpu", "cuda") for t in tensors)
