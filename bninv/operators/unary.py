"""Elementwise functions of one tensor: rule R6."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from bninv._arguments import number
from bninv._autocast import result_dtype
from bninv.modules.base import Patched
from bninv.operators.draw import any_input
from bninv.operators.elementwise import ATEN as ATEN
from bninv.operators.elementwise import KIND_OF as KIND_OF
from bninv.operators.elementwise import KINDS as KINDS
from bninv.operators.elementwise import OF_INTEGERS_TOO as OF_INTEGERS_TOO
from bninv.operators.elementwise import OPERATORS as OPERATORS
from bninv.operators.elementwise import PYTHON as PYTHON
from bninv.operators.elementwise import add, elementwise, unary

_TORCH = "torch.nn.modules.activation."
_TIMM = "timm.layers.activations."
_TIMM_ME = "timm.layers.activations_me."


@elementwise(_TORCH + "ReLU")
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : +0`; NaN stays NaN."""
    return unary("relu", input, inplace)


@elementwise()
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`, exact."""
    return unary("relu6", input, inplace)


@elementwise(_TORCH + "Sigmoid", _TIMM + "Sigmoid")
def sigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`1 / (1 + exp(-x))` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("sigmoid", input, inplace)


@elementwise(_TORCH + "SiLU", _TIMM + "Swish", _TIMM_ME + "SwishMe")
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * sigmoid(x)` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("silu", input, inplace)


@elementwise(_TORCH + "Mish")
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * tanh(log(1 + exp(x)))` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("mish", input, inplace)


@elementwise(_TORCH + "Hardswish", _TIMM + "HardSwish", _TIMM_ME + "HardSwishMe")
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * relu6(x + 3) / 6`; the exact expression is in docs/functions.md."""
    return unary("hardswish", input, inplace)


@elementwise(_TORCH + "Hardsigmoid", _TIMM + "HardSigmoid", _TIMM_ME + "HardSigmoidMe")
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`relu6(x + 3) / 6`; the exact expression is in docs/functions.md."""
    return unary("hardsigmoid", input, inplace)


@elementwise(_TORCH + "Tanh", _TIMM + "Tanh")
def tanh(input: Tensor, inplace: bool = False) -> Tensor:
    """Hyperbolic tangent within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("tanh", input, inplace)


@elementwise()
def sqrt(input: Tensor, inplace: bool = False) -> Tensor:
    """The correctly rounded square root; stock PyTorch's on the CPU is not always."""
    return unary("sqrt", input, inplace)


@elementwise()
def rsqrt(input: Tensor, inplace: bool = False) -> Tensor:
    """`1 / sqrt(x)`, each operation rounded by itself."""
    return unary("rsqrt", input, inplace)


@elementwise()
def exp(input: Tensor, inplace: bool = False) -> Tensor:
    """`e^x` within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("exp", input, inplace)


@elementwise()
def exp2(input: Tensor, inplace: bool = False) -> Tensor:
    """`2^x` within 1 ulp, exact for integers; the exact expression is in docs/functions.md."""
    return unary("exp2", input, inplace)


@elementwise()
def expm1(input: Tensor, inplace: bool = False) -> Tensor:
    """`e^x - 1` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("expm1", input, inplace)


@elementwise()
def log(input: Tensor, inplace: bool = False) -> Tensor:
    """Natural logarithm within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("log", input, inplace)


@elementwise()
def log1p(input: Tensor, inplace: bool = False) -> Tensor:
    """`log(1 + x)` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("log1p", input, inplace)


@elementwise()
def log2(input: Tensor, inplace: bool = False) -> Tensor:
    """Logarithm to base 2 within 2 ulp, exact for powers of two; see docs/functions.md."""
    return unary("log2", input, inplace)


@elementwise()
def log10(input: Tensor, inplace: bool = False) -> Tensor:
    """Logarithm to base 10 within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("log10", input, inplace)


@elementwise()
def erf(input: Tensor, inplace: bool = False) -> Tensor:
    """The error function within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("erf", input, inplace)


@elementwise()
def sin(input: Tensor, inplace: bool = False) -> Tensor:
    """Sine of any angle within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("sin", input, inplace)


@elementwise()
def cos(input: Tensor, inplace: bool = False) -> Tensor:
    """Cosine of any angle within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("cos", input, inplace)


@elementwise()
def tan(input: Tensor, inplace: bool = False) -> Tensor:
    """Tangent of any angle within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("tan", input, inplace)


@elementwise()
def atan(input: Tensor, inplace: bool = False) -> Tensor:
    """Arctangent within 1 ulp; the exact expression is in docs/functions.md."""
    return unary("atan", input, inplace)


@elementwise()
def sinh(input: Tensor, inplace: bool = False) -> Tensor:
    """Hyperbolic sine within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("sinh", input, inplace)


@elementwise()
def cosh(input: Tensor, inplace: bool = False) -> Tensor:
    """Hyperbolic cosine within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("cosh", input, inplace)


@elementwise(_TORCH + "LogSigmoid")
def logsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`log(sigmoid(x))` within 2 ulp; the exact expression is in docs/functions.md."""
    return unary("logsigmoid", input, inplace)


# ---- With arguments of their own -----------------------------------------------------------------


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : x * negative_slope`, the slope rounded to the arithmetic type first."""
    return unary("leaky_relu", input, inplace, number(negative_slope, "negative_slope"))


def gelu(input: Tensor, approximate: str = "none", inplace: bool = False) -> Tensor:
    """`x * Phi(x)` within 2 ulp, or its tanh form; exact expressions are in docs/functions.md.

    Args:
        approximate: 'none' or 'tanh'.
    """
    return unary("gelu", input, inplace, approximate)


def softplus(
    input: Tensor, beta: float = 1, threshold: float = 20, inplace: bool = False
) -> Tensor:
    """`log(1 + exp(beta * x)) / beta`, and `x` where `beta * x > threshold`; within 2 ulp if `beta`
    is a power of two. Both are rounded to the arithmetic type first.
    """
    parameters = number(beta, "beta"), number(threshold, "threshold")
    return unary("softplus", input, inplace, *parameters)


def _elu(
    input: Tensor,
    alpha: float = 1.0,
    scale: float = 1.0,
    input_scale: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    parameters = number(alpha, "alpha"), number(scale, "scale"), number(input_scale, "input_scale")
    return unary("elu", input, inplace, *parameters)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : alpha * (exp(x) - 1)`; the exact expression is in docs/functions.md."""
    return _elu(input, alpha, inplace=inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x > 0 ? x : alpha * (exp(x / alpha) - 1)`, with `1 / alpha` rounded to the arithmetic type.

    Raises:
        ValueError: `alpha` is 0.
    """
    if number(alpha, "alpha") == 0:
        raise ValueError("`alpha` is 0; it may be any other number")
    return _elu(input, alpha, 1.0, 1 / alpha, inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`scale * elu(x, alpha)` with the two constants of self-normalizing networks; the exact
    expression is in docs/functions.md.
    """
    return _elu(
        input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0, inplace
    )


add(
    "softplus",
    "(Tensor input, float beta, float threshold) -> Tensor",
    softplus,
    lambda draw: [any_input(draw), 1.3, 2.0],
)
add(
    "elu",
    "(Tensor input, float alpha, float scale, float input_scale) -> Tensor",
    elu,
    lambda draw: [any_input(draw), 1.3, 0.7, 1.1],
)
add(
    "leaky_relu",
    "(Tensor input, float negative_slope) -> Tensor",
    leaky_relu,
    lambda draw: [any_input(draw), 0.3],
)
add(
    "gelu",
    "(Tensor input, str approximate) -> Tensor",
    gelu,
    lambda draw: [any_input(draw), draw.random.choice(["none", "tanh"])],
)


def _log_sigmoid_forward(input: Tensor) -> tuple[Tensor, Tensor]:
    # The second is what a backward on the CPU would read.
    return logsigmoid(input), input.new_empty(0)


# ATen's names and signatures, where they are not those of torch.nn.functional.
for _name in ("logsigmoid", "logsigmoid_", "softplus_"):
    del ATEN[_name]
del PYTHON["logsigmoid"]
ATEN |= {
    "elu": _elu,
    "elu_": partial(_elu, inplace=True),
    "celu": celu,
    "celu_": partial(celu, inplace=True),
    "selu": selu,
    "selu_": partial(selu, inplace=True),
    "log_sigmoid": logsigmoid,
    "log_sigmoid_forward": _log_sigmoid_forward,
}
PYTHON |= {"celu": celu, "selu": selu}


class ReLU6(Patched):
    """nn.ReLU6, which inherits nn.Hardtanh's forward."""

    inplace: bool

    @classmethod
    def refuse(cls, module: Any) -> str | None:
        if (module.min_val, module.max_val) == (0, 6):
            return None
        return f"Hardtanh from {module.min_val} to {module.max_val} has no kernel yet; 0 to 6 has"

    def invariant_forward(self, input: Tensor) -> Tensor:
        return relu6(input, self.inplace)


class LeakyReLU(Patched):
    negative_slope: float
    inplace: bool

    def invariant_forward(self, input: Tensor) -> Tensor:
        return leaky_relu(input, self.negative_slope, self.inplace)


class ELU(Patched):
    alpha: float
    inplace: bool

    def invariant_forward(self, input: Tensor) -> Tensor:
        return elu(input, self.alpha, self.inplace)


class CELU(ELU):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return celu(input, self.alpha, self.inplace)


class SELU(Patched):
    inplace: bool

    def invariant_forward(self, input: Tensor) -> Tensor:
        return selu(input, self.inplace)


class Softplus(Patched):
    beta: float
    threshold: float

    def invariant_forward(self, input: Tensor) -> Tensor:
        return softplus(input, self.beta, self.threshold)


class MishOfSoftplus(Patched):
    """timm's Mish, whose softplus CUDA's autocast computes in float32."""

    def invariant_forward(self, x: Tensor) -> Tensor:
        return mish(x.to(result_dtype("softplus", x)))


class GELU(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return gelu(input, getattr(self, "approximate", "none"))


class GELUTanh(Patched):
    def invariant_forward(self, input: Tensor) -> Tensor:
        return gelu(input, "tanh")


KIND_OF |= {"relu6": ReLU6, "leaky_relu": LeakyReLU, "gelu": GELU, "gelu_tanh": GELUTanh}
KINDS |= {
    _TORCH + "Hardtanh": ReLU6,
    _TORCH + "LeakyReLU": LeakyReLU,
    _TORCH + "ELU": ELU,
    _TORCH + "CELU": CELU,
    _TORCH + "SELU": SELU,
    _TORCH + "Softplus": Softplus,
    _TORCH + "GELU": GELU,
    _TIMM + "GELU": GELU,
    _TIMM + "Mish": MishOfSoftplus,
    _TIMM + "GELUTanh": GELUTanh,
}

__all__ = [*(op.name for op in OPERATORS), "celu", "selu"]
