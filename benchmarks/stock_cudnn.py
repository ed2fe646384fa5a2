"""Stock PyTorch on CUDA under each of cuDNN's settings that a user may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Setting(NamedTuple):
    channels_last: bool
    tf32: bool


def settings(dtype: torch.dtype) -> dict[str, Setting]:
    """By the name of its row. Only float32 has TF32, which PyTorch lets convolutions use."""
    found = {"stock NCHW": Setting(False, False), "stock channels_last": Setting(True, False)}
    if dtype == torch.float32:
        tf32 = {f"{name}, TF32": s._replace(tf32=True) for name, s in found.items()}
        return {**found, **tf32}
    return found


def run_with(setting: Setting, run: Callable[..., Tensor], *args: Any) -> Tensor:
    """One call, with the fastest algorithm that cuDNN finds for its shapes."""
    # Setting flags takes microseconds on the host, of which a graph's replay sees nothing.
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = setting.tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=setting.tf32):
            return run(*args)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul


def candidates(
    dtype: torch.dtype, by_format: Mapping[bool, Callable[[Tensor], Tensor]]
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Calls that take an input twice, in NCHW and in channels_last, and use the one they want.

    Args:
        by_format: what is run in NCHW (False) and in channels_last (True).
    """

    def call(setting: Setting, nchw: Tensor, channels_last: Tensor) -> Tensor:
        x = channels_last if setting.channels_last else nchw
        return run_with(setting, by_format[setting.channels_last], x)

    return {name: partial(call, setting) for name, setting in settings(dtype).items()}
