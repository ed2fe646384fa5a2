"""The convolutions of networks at 224 x 224 pixels, each distinct one once."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import timm
import torch
from torch import nn

PIXELS = 224


class Convolution(NamedTuple):
    """Square images, kernels, strides and paddings."""

    channels: int
    out_channels: int
    size: int
    out_size: int
    kernel: int
    stride: int
    groups: int

    @property
    def depthwise(self) -> bool:
        return self.groups == self.channels == self.out_channels

    @property
    def terms(self) -> int:
        return self.kernel**2 * self.channels // self.groups

    @property
    def padding(self) -> int:
        return max(0, -((self.size - (self.out_size - 1) * self.stride - self.kernel) // 2))

    def fmas(self, batch: int) -> int:
        return batch * self.out_size**2 * self.out_channels * self.terms

    def __str__(self) -> str:
        text = f"{self.channels} -> {self.out_channels}, {self.kernel}x{self.kernel}"
        return f"{text} / {self.stride}, {self.size}x{self.size}"

    @property
    def label(self) -> str:
        """Unlike those of all other convolutions of any network."""
        if self.depthwise:
            return f"{self}, depthwise"
        return f"{self}, {self.groups} groups" if self.groups > 1 else str(self)


def convolutions(name: str) -> dict[Convolution, int]:
    """Those of timm's network and how often each occurs. On the meta device: none is computed."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        image = torch.empty(1, 3, PIXELS, PIXELS)
    found: Counter[Convolution] = Counter()

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        # Squeeze-and-excitation works on single pixels: as good as a linear layer.
        if output.shape[-1] > 1:
            shape = (module.in_channels, module.out_channels, inputs[0].shape[-1], output.shape[-1])
            found[Convolution(*shape, module.kernel_size[0], module.stride[0], module.groups)] += 1

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.inference_mode():
        model(image)
    return dict(found)
