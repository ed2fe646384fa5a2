"""What a block's program depends on: changed, the block goes back to its own code."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import Net, X, Y, operators

TRUST = ("tests.support.fusing_blocks",)
pytestmark = pytest.mark.usefixtures("one_thread")


def _hook(module: nn.Module, *args: Any) -> None:
    vars(module)["hooked"] = getattr(module, "hooked", 0) + 1


def _set(name: str, attribute: str, value: Any) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        setattr(model.get_submodule(name), attribute, value)

    return change


def _with(name: str, act: Callable[[Any], Any]) -> Callable[[nn.Module], None]:
    return lambda model: act(model.get_submodule(name))


def _scaled_forward(module: nn.Module) -> None:
    own = type(module).forward
    module.forward = lambda x: own(module, x) * 2


def _doubled(module: nn.Module) -> None:
    with torch.no_grad():
        module.weight.mul_(2)


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    **{
        f"a hook of {name}": _with(name, lambda m: m.register_forward_hook(_hook))
        for name in ("blocks.0.conv1", "blocks.0.act1", "blocks.0.drop", "stem", "stem.2")
    },
    "a pre-hook of a BatchNorm": _with(
        "blocks.0.bn2", lambda m: m.register_forward_pre_hook(_hook)
    ),
    "other hooks of a convolution": _set("blocks.0.conv1", "_forward_hooks", {0: _hook}),
    "a hook that changes the result": _with(
        "blocks.1.bn1", lambda m: m.register_forward_hook(lambda m, a, y: y + 1)
    ),
    "another forward of a BatchNorm": _with("blocks.1.bn1", _scaled_forward),
    "another forward of an activation": _with("blocks.1.act2", _scaled_forward),
    "another stride": _set("stem.0", "stride", (2, 2)),
    "another epsilon": _set("blocks.0.bn1", "eps", 0.5),
    "another weight": _set("blocks.0.conv1", "weight", nn.Parameter(torch.ones(6, 6, 3, 3))),
    "no statistics' weight": _set("blocks.1.bn2", "weight", None),
    "a weight changed in place": _with("blocks.0.conv2", _doubled),
    "another number of the block's": _set("blocks.0", "scale", 0.3),
    "another activation": _set("blocks.0", "act1", nn.Tanh()),
    "another BatchNorm": _set("blocks.0", "bn2", nn.Identity()),
    "a module where there was none": _set("blocks.0", "downsample", nn.MaxPool2d(3, 1, 1)),
    "none where there was a module": _set("blocks.1", "downsample", None),
    "one layer more in a container": _with("stem", lambda m: m.append(nn.ReLU())),
    "layers of a container in another order": _with(
        "stem", lambda m: m._modules.update({"1": m[2], "2": m[1]})
    ),
    "one layer less in a container": _with("stem", lambda m: m.pop(2)),
    "a layer that is stock again": _with("blocks.0.bn1", bninv.unpatch),
    "a block that is stock again": _with("blocks.1", bninv.unpatch),
    "a parametrized convolution": _with(
        "blocks.0.conv1", lambda m: nn.utils.parametrizations.weight_norm(m)
    ),
    "a residual of another dtype": _with("blocks.1.downsample", lambda m: m.append(_ToHalf())),
    "a residual that is broadcast": _with("blocks.1.downsample", lambda m: m.append(_OnePixel())),
}


class _ToHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class _OnePixel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :1, :1]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("when", ["before the first call", "after it"])
def test_changed_after_patching(fused: nn.Module, unfused: nn.Module, name: str, when: str) -> None:
    with torch.inference_mode():
        before = unfused(X)
        if when == "after it":
            assert_bitwise_equal(fused(X), before)
    for model in (fused, unfused):
        CHANGES[name](model)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)  # of a stock module put in
        assert_bitwise_equal(fused(X), unfused(X))
        if not ("hook" in name and "changes" not in name) and "again" not in name:
            assert not torch.equal(unfused(X), before), "the change changes nothing"
    counts = [[getattr(m, "hooked", 0) for m in model.modules()] for model in (fused, unfused)]
    assert counts[0] == ([c // 2 if "hook" not in name else c for c in counts[1]])


def test_dropout_that_is_left_in_training(fused: nn.Module) -> None:
    """As in Monte Carlo dropout."""
    with torch.inference_mode():
        expected = fused(X)
        fused.blocks[0].drop.train()
        with pytest.warns(bninv.NotInvariantWarning, match="dropout"):
            assert not torch.equal(fused(X), expected)
        fused.blocks[0].drop.eval()
        assert_bitwise_equal(fused(X), expected)


def test_a_batch_norm_in_training_is_stock(net: nn.Module, fused: nn.Module) -> None:
    for model in (net, fused):
        model.blocks[0].bn1.train()
    before = fused.blocks[0].bn1.num_batches_tracked.clone()
    with torch.no_grad(), pytest.warns(bninv.NotInvariantWarning, match="batch_norm"):
        fused(X)
    assert fused.blocks[0].bn1.num_batches_tracked == before + 1


def test_hooks_taken_away_again(fused: nn.Module) -> None:
    hook = fused.blocks[0].conv1.register_forward_hook(_hook)
    for _ in range(20):
        assert operators(fused, X) == {
            "conv2d_fused": 5,
            "conv2d": 1,
            "batch_norm": 1,
            "mean": 1,
            "linear": 1,
        }
    assert fused.blocks[0].conv1.hooked == 20
    assert [str(block) for block in bninv.fusion(fused).unfused] == [
        "(the model itself) (Net): its blocks.0.conv1 carries hooks",
        "blocks.0 (Block): its conv1 carries hooks",
    ]
    hook.remove()
    assert operators(fused, X)["conv2d_fused"] == 6
    assert bninv.fusion(fused).unfused == []


def test_hooks_that_are_there_at_the_first_call(fused: nn.Module) -> None:
    hooks = [m.register_forward_hook(_hook) for m in fused.modules()]
    for _ in range(20):
        assert operators(fused, X)["conv2d_fused"] == 0
    for hook in hooks:
        hook.remove()
    assert operators(fused, X)["conv2d_fused"] == 6


def test_a_block_that_keeps_changing(fused: nn.Module, unfused: nn.Module) -> None:
    for step in range(30):
        for model in (fused, unfused):
            model.blocks[0].scale = float(step)
        with torch.inference_mode():
            assert_bitwise_equal(fused(X), unfused(X))
        if step < 3:
            assert operators(fused, X)["conv2d_fused"] == 6


class ByMode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.scale = nn.Conv2d(6, 6, 1), nn.ReLU(), 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return x * (3 if torch.is_grad_enabled() else 2) * self.scale


def test_looking_changes_nothing() -> None:
    """bninv.fusion may be called in another mode than the block runs in."""
    block = ByMode().eval()
    fused, unfused = (
        bninv.patch(copy.deepcopy(block), trust=(__name__,)),
        bninv.patch(block, fuse=False),
    )
    with torch.no_grad():
        fused(Y)
        for model in (fused, unfused):
            model.scale = 5.0
    for _ in range(20):
        assert bninv.fusion(fused).chains == 1
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            assert_bitwise_equal(fused(Y).detach(), unfused(Y).detach())
    assert operators(fused, Y)["conv2d_fused"] == 1


def test_hooks_of_all_modules(fused: nn.Module) -> None:
    kinds = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, y: kinds.append(type(m)))
    try:
        fused(X)
    finally:
        handle.remove()
    assert len(kinds) == len([m for m in fused.modules() if not isinstance(m, Net)]) + 1


def test_training_mode_is_stock(net: nn.Module, fused: nn.Module) -> None:
    stock, model = net.train(), fused.train()
    for m in (stock, model):
        for block in m.blocks:
            block.drop.p = 0.0
    torch.testing.assert_close(model(X), stock(X))
    means = [m.blocks[0].bn1.running_mean for m in (model, stock)]
    torch.testing.assert_close(*means)
    assert means[0].abs().max() > 0


def test_what_shares_a_block_s_attributes_is_not_the_block(fused: nn.Module) -> None:
    """As DataParallel's replicas do."""
    block = fused.blocks[0]
    with torch.inference_mode():
        expected = block(Y)
        replica = copy.copy(block)
        replica._modules = {**block._modules, "conv1": copy.deepcopy(block.conv1)}
        replica.conv1.weight = nn.Parameter(torch.zeros_like(block.conv1.weight))
        assert not torch.equal(replica(Y), expected)
        assert_bitwise_equal(block(Y), expected)
