"""Stage "cause": which operators of stock PyTorch move a sample's bits with the batch.

A stock model runs on a batch, and every operator in it runs again on parts of the very inputs it
got: each sample alone, in smaller batches, at another position. So an operator is blamed for what
it does itself. That, for each setting of PyTorch's that is said to help. No operator of bninv runs.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu import batch_norm_switches
from tests.gpu.device import Device, math_settings
from tests.gpu.distance import Distance
from tests.gpu.matrix import stock_model
from tests.gpu.record import Row

SAMPLES = 3  # whose results are compared


@dataclass(frozen=True)
class Plan:
    model: str
    side: int  # pixels
    batch_sizes: tuple[int, ...]  # the last is the whole


PLANS = {
    "cuda": Plan("resnet34", 224, (2, 3, 8, 32)),
    "cpu": Plan("resnet34", 224, (2, 3, 8)),
    "emulated": Plan("test_resnet", 32, (2, 3, 5)),
}


@dataclass(frozen=True)
class Setting:
    """How PyTorch runs the model. By itself it lets cuDNN, and no other product, use TF32."""

    cudnn_tf32: bool = True
    matmul_tf32: bool = False
    cudnn: bool = True
    benchmark: bool = False
    deterministic: bool = False
    channels_last: bool = False
    dtype: torch.dtype = torch.float32


IEEE = functools.partial(Setting, cudnn_tf32=False)
SETTINGS = {
    "defaults": Setting(),
    "no TF32": IEEE(),
    "no TF32, deterministic": IEEE(deterministic=True),
    "no TF32, cuDNN off": IEEE(cudnn=False),
    "no TF32, cudnn.benchmark": IEEE(benchmark=True),
    "no TF32, cudnn.benchmark, deterministic": IEEE(benchmark=True, deterministic=True),
    "deterministic": Setting(deterministic=True),
    "cuDNN off": Setting(cudnn=False),
    "cudnn.benchmark": Setting(benchmark=True),
    "TF32 everywhere": Setting(matmul_tf32=True),
    "channels_last": Setting(channels_last=True),
    "no TF32, channels_last": IEEE(channels_last=True),
    "bfloat16": Setting(dtype=torch.bfloat16),
    "float16": Setting(dtype=torch.float16),
}
# The others say nothing to a CPU.
ON_A_CPU = ("defaults", "channels_last", "bfloat16")


@dataclass
class Kind:
    """All calls of one operator."""

    calls: int = 0
    moved: int = 0
    # By what moved it: the size of the batch, or another position in one of the same size.
    by: dict[str, int] = field(default_factory=dict)
    distance: Distance = field(default_factory=Distance)


class Examiner(TorchDispatchMode):
    """Runs every operator that gets batched tensors again, on parts of what it got.

    Batched is what is as long as the batch: no parameter of the models examined here is.
    """

    def __init__(self, batch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = batch_sizes
        self.whole = batch_sizes[-1]
        self.kinds: dict[str, Kind] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        batched = [v for v in args if isinstance(v, Tensor) and v.dim() and len(v) == self.whole]
        if batched and not func.is_view:
            # What works in place gets copies: its own inputs are still needed.
            self._examine(func, args, kwargs)
        return func(*args, **kwargs)

    def _examine(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        def run(part: Callable[[Tensor], Tensor]) -> Tensor:
            # Copies, so that memory is aligned as in a call of its own.
            chosen = [
                part(v).clone() if isinstance(v, Tensor) and v.dim() and len(v) == self.whole else v
                for v in args
            ]
            result: Tensor = func(*chosen, **kwargs)
            return result

        name = func.overloadpacket.__name__.rstrip("_")
        kind = self.kinds.setdefault(name, Kind())
        count = min(SAMPLES, self.whole)
        alone = torch.cat([run(lambda v, i=i: v[i : i + 1]) for i in range(count)])
        parts = {f"batch {n}": run(lambda v, n=n: v[:n])[:count] for n in self.sizes}
        # In the memory format of the whole, which `roll` alone would not keep.
        parts["position"] = run(lambda v: torch.empty_like(v).copy_(v.roll(1, 0)))[1 : 1 + count]
        kind.calls += 1
        moved = [
            label for label, part in parts.items() if kind.distance.add(part, alone[: len(part)])
        ]
        kind.moved += bool(moved)
        for label in moved:
            kind.by[label] = kind.by.get(label, 0) + 1


def logits(model: nn.Module, x: Tensor, sizes: tuple[int, ...]) -> dict[str, Any]:
    """How far the whole model's outputs move."""
    count = min(SAMPLES, len(x))
    alone = torch.cat([model(x[i : i + 1].clone()) for i in range(count)])
    again = torch.cat([model(x[i : i + 1].clone()) for i in range(count)])
    distance = Distance()
    moved = [n for n in sizes if distance.add(part := model(x[:n])[:count], alone[: len(part)])]
    return {
        "moved_at": moved,
        "repeatable": not Distance().add(again, alone),
        "largest": float(f"{float(alone.abs().max()):.4g}"),
        **distance.row(),
    }


def examine(device: Device, plan: Plan, setting: Setting) -> Row:
    memory_format = torch.channels_last if setting.channels_last else torch.contiguous_format
    to = functools.partial(_to, device.place, setting.dtype, memory_format)
    # What `stock_model` gives is kept for other settings: a copy is moved.
    model = to(copy.deepcopy(stock_model(plan.model, plan.side)))
    generator = torch.Generator().manual_seed(1)
    x = to(torch.randn(plan.batch_sizes[-1], 3, plan.side, plan.side, generator=generator))
    with (
        torch.inference_mode(),
        math_settings(
            tf32=setting.cudnn_tf32,
            matmul_tf32=setting.matmul_tf32,
            cudnn=setting.cudnn,
            benchmark=setting.benchmark,
            deterministic=setting.deterministic,
        ),
    ):
        whole = logits(model, x, plan.batch_sizes)
        with Examiner(plan.batch_sizes) as examiner:
            model(x)
    device.release()
    kinds = {
        name: {"calls": k.calls, "moved": k.moved, "by": k.by, **k.distance.row()}
        for name, k in examiner.kinds.items()
    }
    return {"model": plan.model, "logits": whole, "operators": kinds}


def _to(place: torch.device, dtype: torch.dtype, memory_format: torch.memory_format, v: Any) -> Any:
    return v.to(device=place, dtype=dtype, memory_format=memory_format)


def work(device: Device, variant: str, deadline: float) -> dict[str, Callable[[], Row]]:
    plan = PLANS[device.name]
    chosen = SETTINGS if device.name == "cuda" else {name: SETTINGS[name] for name in ON_A_CPU}
    models = {
        f"{plan.model}, {name}": functools.partial(examine, device, plan, setting)
        for name, setting in chosen.items()
    }
    norms = batch_norm_switches.work(device)
    # The base settings, then BatchNorm by itself, then the other settings.
    first = dict(itertools.islice(models.items(), 4))
    return {**first, **norms, **models}
