"""Every kind of module that patch knows: invariant, close to stock, and stock after unpatch."""

from __future__ import annotations

import copy
import pkgutil
from collections.abc import Callable

import pytest
import timm.layers as tl
import torch
from timm.layers import norm
from timm.layers.adaptive_avgmax_pool import FastAdaptiveCatAvgMaxPool, FastAdaptiveMaxPool
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.split_attn import RadixSoftmax
from timm.layers.split_batchnorm import SplitBatchNorm2d
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d as ConvNeXtNorm
from torchvision.ops import FrozenBatchNorm2d

import bninv
from bninv.modules.base import Patched
from bninv.operators import KINDS, unary
from bninv.testing import assert_batch_invariant, assert_bitwise_equal

CHANNELS = 12
IMAGE, SIGNAL, VOLUME, ROW = (12, 11, 9), (12, 23), (12, 3, 5, 4), (12,)

OVER_LAST = (
    tl.LayerNorm,
    tl.LayerNormFp32,
    tl.RmsNorm,
    norm.RmsNormFp32,
    tl.LayerNormAct,
    tl.LayerNormActFp32,
    tl.RmsNormAct,
    tl.RmsNormActFp32,
)
OVER_CHANNELS = (
    tl.LayerNorm2d,
    norm.LayerNorm2dFp32,
    norm.LayerNormExp2d,
    tl.RmsNorm2d,
    norm.RmsNorm2dFp32,
    tl.LayerNormAct2d,
    tl.LayerNormAct2dFp32,
    tl.RmsNormAct2d,
    tl.RmsNormAct2dFp32,
    tl.GroupNorm1,
    tl.GroupNorm1Act,
)


def with_fast_norm(kind: Callable[[int], nn.Module]) -> nn.Module:
    """timm decides when a module is made."""
    tl.set_fast_norm(True)
    try:
        return kind(12)
    finally:
        tl.set_fast_norm(False)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv1d(12, 7, 3, stride=2, padding=1, dilation=2), SIGNAL),
    "Conv1d same": (lambda: nn.Conv1d(12, 8, 4, padding="same", groups=4), SIGNAL),
    "Conv1d reflect": (lambda: nn.Conv1d(12, 8, 3, padding=2, padding_mode="reflect"), SIGNAL),
    "Conv2d": (lambda: nn.Conv2d(12, 7, (3, 2), stride=(1, 2), padding=(1, 0)), IMAGE),
    "Conv2d same": (lambda: nn.Conv2d(12, 7, (4, 3), padding="same"), IMAGE),
    "Conv2d valid": (lambda: nn.Conv2d(12, 7, 3, padding="valid", bias=False), IMAGE),
    "Conv2d depthwise": (lambda: nn.Conv2d(12, 12, 3, padding=1, groups=12), IMAGE),
    "Conv2d multiplier": (lambda: nn.Conv2d(12, 24, 3, padding=1, groups=12), IMAGE),
    "Conv2d grouped": (lambda: nn.Conv2d(12, 18, 3, padding=1, groups=3), IMAGE),
    **{
        f"Conv2d {mode}": (lambda mode=mode: nn.Conv2d(12, 5, 3, 1, 1, padding_mode=mode), IMAGE)
        for mode in ("reflect", "replicate", "circular")
    },
    "Conv2dSame": (lambda: tl.Conv2dSame(12, 7, 3, stride=2, bias=True), IMAGE),
    "Linear": (lambda: nn.Linear(12, 33), ROW),
    "Linear on positions": (lambda: nn.Linear(23, 5, bias=False), SIGNAL),
    "timm Linear": (lambda: tl.Linear(12, 33), ROW),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(12), SIGNAL),
    "BatchNorm1d rows": (lambda: nn.BatchNorm1d(12, affine=False), ROW),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(12, eps=1e-3), IMAGE),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(12), VOLUME),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(12), IMAGE),
    "BatchNormAct2d": (lambda: tl.BatchNormAct2d(12, act_layer=nn.SiLU), IMAGE),
    "SyncBatchNormAct": (lambda: tl.convert_sync_batchnorm(tl.BatchNormAct2d(12)), IMAGE),
    "SplitBatchNorm2d": (lambda: SplitBatchNorm2d(12), IMAGE),
    "FrozenBatchNormAct2d": (lambda: tl.FrozenBatchNormAct2d(12), IMAGE),
    "FrozenBatchNorm2d": (lambda: FrozenBatchNorm2d(12), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(9), IMAGE),
    "LayerNorm over two": (lambda: nn.LayerNorm((11, 9), elementwise_affine=False), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(3, 12), IMAGE),
    "GroupNorm on positions": (lambda: nn.GroupNorm(4, 12, affine=False), SIGNAL),
    "RMSNorm": (lambda: nn.RMSNorm(9), IMAGE),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(12, affine=True), SIGNAL),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(12), IMAGE),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(12, affine=True), VOLUME),
    "InstanceNorm2d tracked": (lambda: nn.InstanceNorm2d(12, track_running_stats=True), IMAGE),
    "torchvision LayerNorm2d": (lambda: ConvNeXtNorm(12), IMAGE),
    **{f"timm {kind.__name__}": (lambda kind=kind: kind(9), IMAGE) for kind in OVER_LAST},
    **{f"timm {kind.__name__}": (lambda kind=kind: kind(12), IMAGE) for kind in OVER_CHANNELS},
    **{
        f"timm {kind.__name__}": (lambda kind=kind: kind(12, num_groups=3), IMAGE)
        for kind in (tl.GroupNorm, tl.GroupNormAct)
    },
    "timm fast norm": (lambda: with_fast_norm(tl.LayerNorm2d), IMAGE),
    "Softmax": (lambda: nn.Softmax(1), IMAGE),
    "Softmax of rows": (lambda: nn.Softmax(-1), ROW),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), IMAGE),
    "Softmax2d": (nn.Softmax2d, IMAGE),
    "RadixSoftmax": (lambda: RadixSoftmax(2, 3), (12, 1, 1)),
    "RadixSoftmax of one branch": (lambda: RadixSoftmax(1, 3), (12, 1, 1)),
    "StdConv2d": (lambda: tl.StdConv2d(12, 7, 3, stride=2, bias=True), IMAGE),
    "StdConv2dSame": (lambda: tl.StdConv2dSame(12, 7, 3, stride=2), IMAGE),
    "ScaledStdConv2d": (lambda: tl.ScaledStdConv2d(12, 8, 3, groups=4), IMAGE),
    "ScaledStdConv2dSame": (lambda: tl.ScaledStdConv2dSame(12, 7, 4, stride=2), IMAGE),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), SIGNAL),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), IMAGE),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, padding=1, count_include_pad=False), SIGNAL),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), IMAGE),
    "AvgPool2d larger than input": (lambda: nn.AvgPool2d(12, 12, ceil_mode=True), IMAGE),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(5), SIGNAL),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(5), SIGNAL),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(4), IMAGE),
    "MaxPool2dSame": (lambda: MaxPool2dSame(3, 2), IMAGE),
    "AvgPool2dSame": (lambda: AvgPool2dSame(3, 2), IMAGE),
    **{
        f"SelectAdaptivePool2d {pool}": (
            lambda pool=pool: tl.SelectAdaptivePool2d(pool_type=pool, flatten=True),
            IMAGE,
        )
        for pool in ("avg", "max", "avgmax", "catavgmax", "fast", "fastmax", "fastavgmax")
    },
    "FastAdaptiveMaxPool NHWC": (lambda: FastAdaptiveMaxPool(True, "NHWC"), (11, 9, 12)),
    "FastAdaptiveCatAvgMaxPool": (lambda: FastAdaptiveCatAvgMaxPool(False), IMAGE),
    "FastAdaptiveCatAvgMaxPool NHWC": (
        lambda: FastAdaptiveCatAvgMaxPool(False, "NHWC"),
        (11, 9, 12),
    ),
    # The elementwise ones need no arguments.
    **{
        name: (pkgutil.resolve_name(name.replace(".Hardtanh", ".ReLU6")), IMAGE)
        for name in unary.KINDS
    },
    "nn.GELU tanh": (lambda: nn.GELU("tanh"), IMAGE),
    "in place": (lambda: nn.Sequential(nn.Identity(), nn.SiLU(inplace=True)), IMAGE),
}


def randomized(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = make().eval()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5) if "var" in name else tensor.data.normal_(0, 0.5)
    return module


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_kind(name: str) -> None:
    make, shape = CASES[name]
    module = randomized(make)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    stock = module(x.clone())
    patched = bninv.patch(copy.deepcopy(module), strict=True)
    assert any(isinstance(m, Patched) for m in patched.modules()), "nothing was patched"
    result = patched(x.clone())
    assert result.shape == stock.shape
    torch.testing.assert_close(result, stock, rtol=1e-5, atol=1e-5)
    assert_batch_invariant(lambda batch: patched(batch.clone()), x, batch_sizes=(1, 2, 3, 5))
    assert_bitwise_equal(bninv.unpatch(patched)(x.clone()), stock)


def test_every_kind_has_a_case() -> None:
    """A row of KINDS whose class nobody makes here is a row that nothing tests."""
    used = set()
    for make, _ in CASES.values():
        for module in bninv.patch(randomized(make)).modules():
            if isinstance(module, Patched) and module.is_kind:
                used.add(type(module)._mixin)
    assert used == set(KINDS.values())


@torch.no_grad()
@pytest.mark.parametrize("kind", [tl.LayerNorm2d, tl.GroupNorm1, tl.RmsNorm2d, tl.LayerNormAct2d])
@pytest.mark.parametrize("fast", [False, True], ids=["", "fast norm"])
def test_norms_under_autocast_have_stocks_dtype(kind: type[nn.Module], fast: bool) -> None:
    """timm's fast norms take the autocast dtype where stock ones keep the input's."""
    module = with_fast_norm(kind) if fast else kind(12)
    x = torch.randn(2, *IMAGE, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        stock = module.eval()(x)
        result = bninv.patch(module)(x)
    assert result.dtype == stock.dtype
    torch.testing.assert_close(result, stock, rtol=2e-2, atol=2e-2)


@torch.no_grad()
def test_in_place_activations_change_their_input() -> None:
    for act in (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid):
        module = bninv.patch(act(inplace=True).eval())
        x = torch.linspace(-4, 4, 41)
        expected = bninv.patch(act().eval())(x)
        assert module(x) is x
        assert_bitwise_equal(x, expected, act.__name__)


def test_in_place_activation_is_seen_by_a_backward_that_saved_its_input() -> None:
    x = torch.randn(4, requires_grad=True)
    y = torch.exp(x)  # saves its result
    with torch.no_grad():
        bninv.patch(nn.SiLU(inplace=True).eval())(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_in_place_activation_keeps_the_history_of_its_input() -> None:
    x = torch.randn(4, requires_grad=True)
    y = x * 2
    assert bninv.patch(nn.SiLU(inplace=True).eval())(y) is y
    with pytest.raises(NotImplementedError, match="no backward yet"):
        y.sum().backward()


@torch.no_grad()
def test_zeros_of_both_signs_do_not_depend_on_their_place() -> None:
    pool = bninv.patch(FastAdaptiveMaxPool(flatten=True).eval())
    x = torch.full((1, 40, 3, 3), -0.0)
    for place in range(9):
        y: Tensor = x.clone()
        y[:, :, place // 3, place % 3] = 0.0
        for memory_format in (torch.contiguous_format, torch.channels_last):
            result = pool(y.clone(memory_format=memory_format))
            assert_bitwise_equal(result, torch.zeros(1, 40), f"at {place}, {memory_format}")
