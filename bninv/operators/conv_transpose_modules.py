"""nn.ConvTranspose1d, 2d and 3d: rule R1."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bninv.modules.base import Patched
from bninv.operators.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d


class _ConvTranspose(Patched):
    panel_parameters = ("weight",)

    def panel_order(self, parameter: Tensor) -> tuple[int, ...]:
        module: Any = self
        if module.groups in (1, module.in_channels):
            return (*range(2, parameter.dim()), 0, 1)
        return tuple(range(parameter.dim()))  # packed for each call: no order of strides would do

    def _transposed(self, function: Any, input: Tensor, output_size: Any) -> Tensor:
        module: Any = self
        output_padding = module._output_padding(
            input,
            output_size,
            module.stride,
            module.padding,
            module.kernel_size,
            len(module.kernel_size),
            module.dilation,
        )
        result: Tensor = function(
            input,
            module.weight,
            module.bias,
            module.stride,
            module.padding,
            output_padding,
            module.groups,
            module.dilation,
        )
        return result


class ConvTranspose1d(_ConvTranspose):
    def invariant_forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transposed(conv_transpose1d, input, output_size)


class ConvTranspose2d(_ConvTranspose):
    def invariant_forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transposed(conv_transpose2d, input, output_size)


class ConvTranspose3d(_ConvTranspose):
    def invariant_forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transposed(conv_transpose3d, input, output_size)


KINDS: dict[str, type[Patched]] = {
    f"torch.nn.modules.conv.{kind.__name__}": kind
    for kind in (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
}
