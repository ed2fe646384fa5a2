"""A module of each kind that patch knows, and the shape of a sample for it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

import timm.layers as tl
import torch
from timm.layers import norm
from timm.layers.adaptive_avgmax_pool import FastAdaptiveCatAvgMaxPool, FastAdaptiveMaxPool
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.split_attn import RadixSoftmax
from timm.layers.split_batchnorm import SplitBatchNorm2d
from torch import nn
from torchvision.models.convnext import LayerNorm2d as ConvNeXtNorm
from torchvision.ops import FrozenBatchNorm2d

from bninv.operators import unary

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


class Outputs(nn.Module):
    """A recurrent layer or cell, whose results are one row a sample."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, state = self.layer(x)
        if output.dim() == 2:  # a cell's two states
            return output + state
        states = state if isinstance(state, tuple) else (state,)
        rows = [s.transpose(0, 1).flatten(1) for s in states]
        return torch.cat([output.flatten(1), *rows], 1)


# Of which stock has no kernel for fake tensors on CUDA.
UNFAKED = {"LSTM", "LSTM projected", "GRU", "RNN", "GRUCell"}

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
    "Conv3d": (lambda: nn.Conv3d(12, 7, (1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1)), VOLUME),
    "Conv3d same": (lambda: nn.Conv3d(12, 12, (2, 3, 3), padding="same", groups=12), VOLUME),
    "Conv3d replicate": (lambda: nn.Conv3d(12, 4, 3, 1, 1, padding_mode="replicate"), VOLUME),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(12, 7, 4, stride=2, padding=1), SIGNAL),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(12, 7, 2, stride=2, bias=False), IMAGE),
    "ConvTranspose2d grouped": (
        lambda: nn.ConvTranspose2d(12, 9, 3, stride=2, output_padding=1, groups=3, dilation=2),
        IMAGE,
    ),
    "ConvTranspose2d depthwise": (lambda: nn.ConvTranspose2d(12, 12, 4, 2, 1, groups=12), IMAGE),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(12, 7, (1, 3, 2), stride=(1, 2, 2)), VOLUME),
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
    "LSTM": (lambda: Outputs(nn.LSTM(23, 5, 2, bidirectional=True, batch_first=True)), SIGNAL),
    "LSTM projected": (lambda: Outputs(nn.LSTM(23, 5, proj_size=3, batch_first=True)), SIGNAL),
    "GRU": (lambda: Outputs(nn.GRU(23, 5, bias=False, batch_first=True)), SIGNAL),
    "RNN": (lambda: Outputs(nn.RNN(23, 5, nonlinearity="relu", batch_first=True)), SIGNAL),
    "LSTMCell": (lambda: Outputs(nn.LSTMCell(12, 5)), ROW),
    "GRUCell": (lambda: nn.GRUCell(12, 5), ROW),
    "RNNCell": (lambda: nn.RNNCell(12, 5), ROW),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), SIGNAL),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), IMAGE),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, padding=1, count_include_pad=False), SIGNAL),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), IMAGE),
    "AvgPool2d larger than input": (lambda: nn.AvgPool2d(12, 12, ceil_mode=True), IMAGE),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(5), SIGNAL),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(5), SIGNAL),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(4), IMAGE),
    "MaxPool3d": (lambda: nn.MaxPool3d((1, 3, 2), 2, (0, 1, 1), ceil_mode=True), VOLUME),
    "AvgPool3d": (lambda: nn.AvgPool3d(2, 1, 1, count_include_pad=False), VOLUME),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d((1, None, 2)), VOLUME),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d(2), VOLUME),
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
    "Upsample linear": (lambda: nn.Upsample(scale_factor=1.7, mode="linear"), SIGNAL),
    "Upsample bilinear": (lambda: nn.Upsample((17, 5), mode="bilinear"), IMAGE),
    "Upsample bicubic": (
        lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
        IMAGE,
    ),
    "Upsample trilinear": (lambda: nn.Upsample(scale_factor=(1, 2, 1.5), mode="trilinear"), VOLUME),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
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
