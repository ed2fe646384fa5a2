"""BatchNorm folded into the convolutions before it, as one deploys a stock model."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Tracer(fx.Tracer):
    """Enters no BatchNorm: timm's are modules with an activation inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(model: nn.Module) -> int:
    """Fold, in place, each BatchNorm that alone reads a convolution's result; how many those are.

    torch.fx finds them; the model itself stays what it was, with other modules in these places.
    """
    modules = dict(model.named_modules())
    folded = 0
    for node in _Tracer().trace(model).nodes:
        before = node.args[0] if node.op == "call_module" else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        batch_norm, conv = modules[str(node.target)], modules[str(before.target)]
        if isinstance(batch_norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            model.set_submodule(str(before.target), fuse_conv_bn_eval(conv, batch_norm))
            model.set_submodule(str(node.target), _what_follows(batch_norm))
            folded += 1
    return folded


def _what_follows(batch_norm: nn.BatchNorm2d) -> nn.Module:
    """timm's BatchNormAct2d applies an activation; dropping is for training."""
    return getattr(batch_norm, "act", nn.Identity())
