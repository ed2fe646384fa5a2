"""Make a model with random weights behave like a trained one: realistic, clearly different outputs.

A freshly built network proves little. Its BatchNorm statistics are 0 and 1 whatever its
activations are, so these grow or vanish with depth; and some parameters start at 0 or 1e-6, so that
whole residual branches never reach the output.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bninv._structure import map_tensors
from bninv.checking.inputs import call_model

# Significant bits that calibrated statistics keep. float64 results of two thread counts or memory
# formats differ around the 50th bit, so what is left after rounding does not.
_BITS = 14


def _has_statistics(module: nn.Module) -> bool:
    """BatchNorm of any kind, FrozenBatchNorm included, that has running statistics."""
    mean, var = (getattr(module, name, None) for name in ("running_mean", "running_var"))
    return isinstance(mean, Tensor) and isinstance(var, Tensor)


def is_untrained(model: nn.Module) -> bool:
    """Whether the model has BatchNorm, and all its running statistics are still 0 and 1."""
    found: list[Any] = [m for m in model.modules() if _has_statistics(m)]
    zero_and_one = (m.running_mean.eq(0).all() and m.running_var.eq(1).all() for m in found)
    return bool(found) and all(zero_and_one)


def randomize_constants(model: nn.Module, seed: int = 0) -> None:
    """Draw every constant parameter anew: what was all 0, all 1 or all 1e-6 says nothing.

    Biases (and whatever was 0 in one dimension, unless it scales) become normal with deviation
    0.1, scales uniform in [0.5, 1.5), matrices and kernels normal with deviation 1 / sqrt(fan_in).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point() or parameter.numel() == 0:
                continue
            first = parameter.flatten()[0]
            # A single number other than 0 is a value somebody chose (a temperature, say).
            if bool((parameter != first).any()) or (parameter.numel() == 1 and first != 0):
                continue
            shape = parameter.shape
            if parameter.squeeze().dim() > 1:
                fan_in = max(1, parameter[0].numel())
                values = torch.randn(shape, generator=generator) / fan_in**0.5
            elif name.endswith("bias") or (first == 0 and not name.endswith(("weight", "gain"))):
                values = 0.1 * torch.randn(shape, generator=generator)
            else:
                values = 0.5 + torch.rand(shape, generator=generator)
            parameter.copy_(values)


def calibrate_batch_norm(model: nn.Module, inputs: Any) -> int:
    """Set each BatchNorm's running statistics to those of its input, when `inputs` run through.

    Runs once, in float64 on a copy, and rounds the statistics to 14 bits: so a model and seed get
    the same ones with any thread count and memory format, where float32 results would differ. (A
    model that cannot run in float64 runs in float32.) A module that runs twice gets the average.

    Args:
        model: a stock model on the CPU, in eval mode.
        inputs: at least two samples, in whatever structure the model takes.

    Returns:
        How many modules were calibrated.
    """
    try:
        statistics = _observe(model, inputs, torch.float64)
    except RuntimeError:
        statistics = _observe(model, inputs, torch.float32)
    with torch.no_grad():
        for name, (mean, var) in statistics.items():
            module: Any = model.get_submodule(name)
            module.running_mean.copy_(mean)
            module.running_var.copy_(var)
    return len(statistics)


def _observe(model: nn.Module, inputs: Any, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Each BatchNorm's statistics, found in order: a later one sees the earlier ones' at work."""
    work = copy.deepcopy(model).to(dtype)
    runs: dict[str, int] = {}

    def observe(name: str) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            var, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
            # A channel that is constant over all images has no scale of its own.
            var = torch.where(var > 1e-12, var, torch.ones_like(var))
            # A mean is rounded to a fraction of the deviation: near 0 all its bits are noise.
            unit = torch.ldexp(torch.ones_like(var), torch.frexp(var.sqrt()).exponent - _BITS)
            runs[name] = runs.get(name, 0) + 1
            module.running_mean.lerp_(torch.round(mean / unit) * unit, 1 / runs[name])
            unit = torch.ldexp(torch.ones_like(var), torch.frexp(var).exponent - _BITS)
            module.running_var.lerp_(torch.round(var / unit) * unit, 1 / runs[name])

        return hook

    for name, module in work.named_modules():
        if _has_statistics(module):
            module.register_forward_pre_hook(observe(name))
    with torch.no_grad():
        call_model(work, map_tensors(lambda tensor: tensor.to(dtype), inputs))
    modules: dict[str, Any] = dict(work.named_modules())
    return {name: (modules[name].running_mean, modules[name].running_var) for name in runs}
