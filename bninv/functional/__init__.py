"""The contract's operators under the names and signatures of `torch.nn.functional`.

Every element of a result is one fixed expression of IEEE operations (docs/numerics.md), so it
depends neither on the batch size, the position in the batch and the other samples, nor on memory
format, thread count, instruction set or device.

Tensors are float32, float16, bfloat16 or float64, on the CPU or on a CUDA GPU; those of one call
have one dtype, but the normalizations take float32 parameters beside a narrower input. softmax and
the elementwise functions with an exponential do not take float64. Narrower dtypes are computed in
float32 and rounded once. Other dtypes and devices raise an error. Under `torch.autocast` a function
casts as its stock namesake does. The first eager call compiles the operators if nobody has yet.

Gradients: a result of inputs that require gradients carries a `grad_fn` whose backward raises
NotImplementedError.
"""

from __future__ import annotations

from bninv.functional.elementwise import (
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    relu,
    relu6,
    rsqrt,
    sigmoid,
    silu,
    sqrt,
    tanh,
)
from bninv.functional.fused import conv2d_fused, linear_fused
from bninv.functional.normalization import Activation, batch_norm
from bninv.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from bninv.functional.products import conv1d, conv2d, linear, matmul
from bninv.functional.reductions import mean, sum, var, vector_norm
from bninv.functional.sample_statistics import group_norm, instance_norm, layer_norm, rms_norm
from bninv.functional.softmax import log_softmax, softmax

__all__ = [
    "Activation",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv2d_fused",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_fused",
    "log_softmax",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "mean",
    "relu",
    "relu6",
    "rms_norm",
    "rsqrt",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "sum",
    "tanh",
    "var",
    "vector_norm",
]
