"""Each operator of bninv.functional with good arguments, and what it says of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bninv.functional as F
from bninv.operators import binary, unary
from tests.support.properties import normal

ERRORS = (TypeError, ValueError, RuntimeError)
X4, X3, X2 = normal("x4", 2, 6, 5, 7), normal("x3", 2, 6, 9), normal("x2", 3, 6)
X5, W5 = normal("x5", 2, 6, 3, 4, 5), normal("w5", 4, 6, 2, 3, 3)
W4, W3, W2 = normal("w4", 4, 6, 3, 3), normal("w3", 4, 6, 3), normal("w2", 4, 6)
BIAS = normal("bias", 4)
QUERY, KEY = normal("query", 2, 3, 4, 6), normal("key", 2, 3, 7, 6)
GRID = normal("grid", 2, 4, 3, 2)
BOXES = torch.tensor([[0, 0.5, 1, 5, 4], [1, 2, 0.25, 6, 3.5], [0, 1, 1, 3, 2]])
STATISTICS = {
    "running_mean": normal("mean", 6),
    "running_var": normal("var", 6).abs(),
    "weight": normal("weight", 6),
    "bias": normal("bias", 6),
}
AFFINE = {name: STATISTICS[name] for name in ("weight", "bias")}
ROIS = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
ELEMENTWISE = tuple(op.name for op in unary.OPERATORS)
# Each operator with good arguments; a test spoils one at a time.
CALLS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "conv1d": (F.conv1d, {"input": X3, "weight": W3, "bias": BIAS}),
    "conv2d": (F.conv2d, {"input": X4, "weight": W4, "bias": BIAS}),
    "conv3d": (F.conv3d, {"input": X5, "weight": W5, "bias": BIAS}),
    **{
        f"conv_transpose{x.ndim - 2}d": (
            getattr(F, f"conv_transpose{x.ndim - 2}d"),
            {"input": x, "weight": w.transpose(0, 1).contiguous(), "bias": BIAS},
        )
        for x, w in ((X3, W3), (X4, W4), (X5, W5))
    },
    "linear": (F.linear, {"input": X2, "weight": W2, "bias": BIAS}),
    "baddbmm": (
        F.baddbmm,
        {"input": X3[..., :4], "batch1": X3, "batch2": X3.mT.contiguous()[..., :4]},
    ),
    "batch_norm": (F.batch_norm, {"input": X4, **STATISTICS}),
    "layer_norm": (
        F.layer_norm,
        {"input": X2, "normalized_shape": 6, **AFFINE},
    ),
    "rms_norm": (F.rms_norm, {"input": X2, "normalized_shape": 6, "weight": AFFINE["weight"]}),
    "group_norm": (F.group_norm, {"input": X4, "num_groups": 3, **AFFINE}),
    "instance_norm": (F.instance_norm, {"input": X4, **AFFINE}),
    "softmax": (F.softmax, {"input": X4, "dim": 1}),
    "scaled_dot_product_attention": (
        F.scaled_dot_product_attention,
        {"query": QUERY, "key": KEY, "value": KEY + 1},
    ),
    "log_softmax": (F.log_softmax, {"input": X4, "dim": -1}),
    **{
        name: (getattr(F, name), {"input": X4, "dim": 1})
        for name in ("cumsum", "cumprod", "logcumsumexp")
    },
    "max_pool1d": (F.max_pool1d, {"input": X3, "kernel_size": 3}),
    "max_pool2d": (F.max_pool2d, {"input": X4, "kernel_size": 3}),
    "avg_pool1d": (F.avg_pool1d, {"input": X3, "kernel_size": 3}),
    "avg_pool2d": (F.avg_pool2d, {"input": X4, "kernel_size": 3}),
    "max_pool3d": (F.max_pool3d, {"input": X5, "kernel_size": 2}),
    "avg_pool3d": (F.avg_pool3d, {"input": X5, "kernel_size": 2}),
    "adaptive_avg_pool3d": (F.adaptive_avg_pool3d, {"input": X5, "output_size": 2}),
    "adaptive_max_pool3d": (F.adaptive_max_pool3d, {"input": X5, "output_size": 2}),
    "adaptive_avg_pool1d": (F.adaptive_avg_pool1d, {"input": X3, "output_size": 2}),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, {"input": X4, "output_size": 2}),
    "adaptive_max_pool1d": (F.adaptive_max_pool1d, {"input": X3, "output_size": 2}),
    "adaptive_max_pool2d": (F.adaptive_max_pool2d, {"input": X4, "output_size": 2}),
    "deform_conv2d": (
        F.deform_conv2d,
        {"input": X4, "offset": normal("offset", 2, 18, 3, 5), "weight": W4, "bias": BIAS},
    ),
    "grid_sample": (F.grid_sample, {"input": X4, "grid": GRID, "mode": "bilinear"}),
    **{
        name: (
            getattr(F, name),
            {"input": X4, "boxes": BOXES, "output_size": (2, 3 if name[0] == "p" else 2)},
        )
        for name in ROIS
    },
    "interpolate": (F.interpolate, {"input": X4, "size": (7, 4), "mode": "bilinear"}),
    "mean": (F.mean, {"input": X4, "dim": (2, 3)}),
    "sum": (F.sum, {"input": X4, "dim": (2, 3)}),
    **{
        op.name: (
            getattr(F, op.name),
            {"input": X4.abs(), "exponent" if op.name == "pow" else "other": X4[:1]},
        )
        for op in binary.OPERATORS
    },
    # Of numbers that all of them take: a comparison of NaN says nothing.
    **{name: (getattr(F, name), {"input": X4.abs()}) for name in ELEMENTWISE},
}
NARROW = {torch.float32, torch.float16, torch.bfloat16}
PRODUCTS = {name for name in CALLS if name.startswith("conv")}
PRODUCTS |= {"linear", "baddbmm", "scaled_dot_product_attention"}
# Whose tensors are all of one dtype.
STRICT = {*PRODUCTS, "deform_conv2d", "grid_sample", *ROIS}
STRICT |= {op.name for op in binary.OPERATORS}
# The dtypes that an operator takes, all of its tensors being of one.
DTYPES = dict.fromkeys(CALLS, NARROW | {torch.float64})
# Those of an input beside float32 parameters.
NORMS = {"batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"}
BESIDE_FLOAT32 = {
    **DTYPES,
    **dict.fromkeys(NORMS, NARROW),
    **{name: {torch.float32} for name in STRICT},
}
TENSOR_ARGUMENTS = [
    (name, argument)
    for name, (_, arguments) in CALLS.items()
    for argument, value in arguments.items()
    if isinstance(value, Tensor)
]


def call(name: str, **changed: Any) -> Tensor:
    operator, arguments = CALLS[name]
    return operator(**{**arguments, **changed})


def assert_refused(name: str, argument: str, **changed: Any) -> str:
    """The message names the argument as a word."""
    with pytest.raises(ERRORS, match=rf"\b{argument}\b") as raised:
        call(name, **changed)
    assert not isinstance(raised.value, AssertionError)
    return str(raised.value)
