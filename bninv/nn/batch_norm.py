"""BatchNorm modules of torch.nn, torchvision and timm in eval mode: rule R2."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from bninv import functional as F
from bninv.nn.base import Patched, drop_and_act


def _normalize(module: Any, input: Tensor) -> Tensor:
    return F.batch_norm(
        input,
        module.running_mean,
        module.running_var,
        module.weight,
        module.bias,
        eps=module.eps,
    )


class BatchNorm(Patched):
    """BatchNorm1d/2d/3d and SyncBatchNorm, which in eval mode synchronises nothing."""

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            return "its shape is not known before its first forward: run the model once, then patch"
        if module.running_mean is None or module.running_var is None:
            return (
                "it has no running statistics and normalizes by the batch's own, which move with "
                "the batch"
            )
        return None

    def invariant_forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[attr-defined]
        return _normalize(self, input)


class BatchNormAct(BatchNorm):
    """timm's BatchNormAct2d, SyncBatchNormAct and SplitBatchNorm2d: then drop, then act."""

    def invariant_forward(self, input: Tensor) -> Tensor:
        return drop_and_act(self, super().invariant_forward(input))


class FrozenBatchNorm(Patched):
    """torchvision's FrozenBatchNorm2d and timm's FrozenBatchNormAct2d."""

    def invariant_forward(self, x: Tensor) -> Tensor:
        return drop_and_act(self, _normalize(self, x))


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.batchnorm._BatchNorm": BatchNorm,
    "torch.nn.modules.batchnorm.SyncBatchNorm": BatchNorm,
    "timm.layers.norm_act.BatchNormAct2d": BatchNormAct,
    "timm.layers.norm_act.SyncBatchNormAct": BatchNormAct,
    "timm.layers.split_batchnorm.SplitBatchNorm2d": BatchNormAct,
    "timm.layers.norm_act.FrozenBatchNormAct2d": FrozenBatchNorm,
    "torchvision.ops.misc.FrozenBatchNorm2d": FrozenBatchNorm,
}
