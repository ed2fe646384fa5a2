"""Values of a patched model for those who take contiguous tensors only."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def contiguous_state_dict(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()` with contiguous tensors: copies of those that are not.

    `state_dict()` hands out values that share memory with the parameters, whose layout is the
    kernels' in a patched model. `safetensors.torch.save_file` refuses such tensors; torch.save,
    `load_state_dict` and averages of weights take them as they are.

    >>> save_file(bninv.contiguous_state_dict(model), "model.safetensors")
    """
    state = model.state_dict()
    return {k: v.contiguous() if isinstance(v, Tensor) else v for k, v in state.items()}
