"""Linear modules of torch.nn and timm: rule R1."""

from __future__ import annotations

from torch import Tensor

from bninv import functional as F
from bninv._autocast import result_dtype
from bninv.functional.normalization import Activation
from bninv.nn.base import Patched
from bninv.nn.fused import has_activation, is_like


class Linear(Patched):
    panel_parameters = ("weight",)
    weight: Tensor
    bias: Tensor | None

    def invariant_forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def fused_forward(
        self,
        input: Tensor,
        norm: None,
        residual: Tensor | None,
        activation: Activation,
        negative_slope: float,
    ) -> Tensor | None:
        """`activation(forward(input) + residual)`; None if one operator cannot do it."""
        if not isinstance(input, Tensor):
            return None
        shape = (*input.shape[:-1], self.weight.shape[0])
        fits = is_like(residual, input.device, result_dtype("linear", input), shape)
        if not (fits and has_activation(input, activation)):
            return None
        if residual is not None and not residual.is_contiguous():
            return None
        return F.linear_fused(
            input,
            self.weight,
            self.bias,
            residual=residual,
            activation=activation,
            negative_slope=negative_slope,
        )


KINDS: dict[str, type[Patched]] = {
    "torch.nn.modules.linear.Linear": Linear,
    "timm.layers.linear.Linear": Linear,
}
